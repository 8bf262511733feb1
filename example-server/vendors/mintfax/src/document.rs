//! What a document is, by what is in it. What its sender calls it counts for nothing.

mod office;

use std::fs::File;

use platform::text::text_enum;

text_enum! {
    /// What can be faxed.
    pub(super) enum MediaType {
        Pdf = "application/pdf",
        Docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        Xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        Jpeg = "image/jpeg",
        Png = "image/png",
        Tiff = "image/tiff",
        Html = "text/html",
        Text = "text/plain",
    }
}

impl MediaType {
    /// Whether its bytes stand for characters, and so a character set means something.
    pub(super) const fn is_text(self) -> bool {
        matches!(self, Self::Html | Self::Text)
    }
}

/// Looks at a document while it comes in.
#[derive(Debug, Default)]
pub(super) struct Sniffer {
    /// The first bytes.
    head: Vec<u8>,
    /// Whether there was a byte that no text has.
    binary: bool,
}

/// What a document can be by its first bytes, and by whether it is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sniffed {
    Known(MediaType),
    /// A ZIP archive: a DOCX, an XLSX, or none of ours.
    Archive,
    Unknown,
}

/// As many as a PDF may have before its first line.
const HEAD: usize = 1024;

/// Where a document with these bytes is what is on the right.
const BEGINNINGS: &[(&[u8], Sniffed)] = &[
    (b"\xff\xd8\xff", Sniffed::Known(MediaType::Jpeg)),
    (b"\x89PNG\r\n\x1a\n", Sniffed::Known(MediaType::Png)),
    (b"II*\0", Sniffed::Known(MediaType::Tiff)),
    (b"MM\0*", Sniffed::Known(MediaType::Tiff)),
    (b"PK\x03\x04", Sniffed::Archive),
];

/// What HTML begins with, by <https://mimesniff.spec.whatwg.org/#identifying-a-resource-with-an-unknown-mime-type>.
const TAGS: &[&[u8]] = &[
    b"<!doctype html",
    b"<html",
    b"<head",
    b"<script",
    b"<iframe",
    b"<h1",
    b"<div",
    b"<font",
    b"<table",
    b"<a",
    b"<style",
    b"<title",
    b"<b",
    b"<body",
    b"<br",
    b"<p",
    b"<!--",
];

impl Sniffer {
    pub(super) fn look_at(&mut self, bytes: &[u8]) {
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.binary = self.binary || bytes.iter().copied().any(is_binary);
    }

    pub(super) fn sniffed(&self) -> Sniffed {
        let beginning = BEGINNINGS.iter().find(|(bytes, _)| self.head.starts_with(bytes));
        if let Some((_, sniffed)) = beginning {
            return *sniffed;
        }
        if self.head.windows(5).any(|window| window == b"%PDF-") {
            return Sniffed::Known(MediaType::Pdf);
        }
        if self.binary || self.head.is_empty() {
            return Sniffed::Unknown;
        }
        Sniffed::Known(if is_html(&self.head) { MediaType::Html } else { MediaType::Text })
    }
}

impl Sniffed {
    /// What it is; an archive is looked into, which reads from the disk.
    pub(super) fn media_type(self, document: &mut File) -> std::io::Result<Option<MediaType>> {
        match self {
            Self::Known(media_type) => Ok(Some(media_type)),
            Self::Archive => office::media_type(document),
            Self::Unknown => Ok(None),
        }
    }
}

/// A binary data byte of the same specification.
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)
}

fn is_html(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    TAGS.iter().any(|tag| {
        let Some((begins, rest)) = head.split_at_checked(tag.len()) else { return false };
        let ends =
            *tag == b"<!--" || matches!(rest.first(), None | Some(b' ' | b'>' | b'\n' | b'\r' | b'\t'));
        begins.eq_ignore_ascii_case(tag) && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sniffed(bytes: &[u8]) -> Sniffed {
        let mut sniffer = Sniffer::default();
        for piece in bytes.chunks(3) {
            sniffer.look_at(piece);
        }
        sniffer.sniffed()
    }

    #[test]
    fn a_document_is_what_is_in_it() {
        for (bytes, expected) in [
            (&b"%PDF-1.7\n..."[..], MediaType::Pdf),
            (b"\x00\x01junk before it\n%PDF-1.4", MediaType::Pdf),
            (b"\xff\xd8\xff\xe0\x00\x10JFIF", MediaType::Jpeg),
            (b"\x89PNG\r\n\x1a\n\x00", MediaType::Png),
            (b"II*\x00\x08", MediaType::Tiff),
            (b"MM\x00*\x00", MediaType::Tiff),
            (b"<!DOCTYPE html>\n<p>", MediaType::Html),
            (b"\xef\xbb\xbf  <HTML lang=es>", MediaType::Html),
            (b"<!-- a letter --><p>", MediaType::Html),
            (b"Dear Sir,\r\n\tthe year\x0c\x1b[0m", MediaType::Text),
            ("señor, <html> is not at the beginning".as_bytes(), MediaType::Text),
            (b"caf\xe9 in Latin 1", MediaType::Text),
            (b"<prelude>", MediaType::Text),
        ] {
            assert_eq!(sniffed(bytes), Sniffed::Known(expected), "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(sniffed(b"PK\x03\x04\x14"), Sniffed::Archive);
    }

    #[test]
    fn what_is_nothing_of_that_is_unknown() {
        let far = [&[b'x'; 4096][..], &[0]].concat();
        for bytes in [&b""[..], b"\x7fELF\x02", b"GIF89a\x01\x00", b"{\\rtf1\x00", b"text\x00", &far] {
            assert_eq!(sniffed(bytes), Sniffed::Unknown, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
