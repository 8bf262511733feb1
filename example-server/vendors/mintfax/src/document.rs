//! Detection of a document's media type from its content. The file name and type that the client
//! sends are ignored.

mod office;

use std::fs::File;

use platform::text::text_enum;

text_enum! {
    /// The media types that can be faxed.
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

/// Inspects a document while it arrives.
#[derive(Debug, Default)]
pub(super) struct Sniffer {
    /// The first bytes, at most [`HEAD`].
    head: Vec<u8>,
    /// Whether there was a byte that does not occur in text.
    binary: bool,
}

/// The result of sniffing: the first bytes, and whether all bytes are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sniffed {
    Known(MediaType),
    /// A ZIP archive: a DOCX, an XLSX, or an unsupported file.
    Archive,
    Unknown,
}

/// The bytes that are kept from the beginning: a PDF may have this many before its header.
const HEAD: usize = 1024;

/// The signatures at the beginning of a document, with what they identify.
const BEGINNINGS: &[(&[u8], Sniffed)] = &[
    (b"\xff\xd8\xff", Sniffed::Known(MediaType::Jpeg)),
    (b"\x89PNG\r\n\x1a\n", Sniffed::Known(MediaType::Png)),
    (b"II*\0", Sniffed::Known(MediaType::Tiff)),
    (b"MM\0*", Sniffed::Known(MediaType::Tiff)),
    (b"PK\x03\x04", Sniffed::Archive),
];

/// The tags that identify HTML, as in
/// <https://mimesniff.spec.whatwg.org/#identifying-a-resource-with-an-unknown-mime-type>.
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
    /// Returns the media type. Inspecting an archive reads from the disk.
    pub(super) fn media_type(self, document: &mut File) -> std::io::Result<Option<MediaType>> {
        match self {
            Self::Known(media_type) => Ok(Some(media_type)),
            Self::Archive => office::media_type(document),
            Self::Unknown => Ok(None),
        }
    }
}

/// Checks for a binary data byte, as the same specification defines it.
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
    fn the_content_determines_the_media_type() {
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
    fn any_other_content_is_unknown() {
        let far = [&[b'x'; 4096][..], &[0]].concat();
        for bytes in [&b""[..], b"\x7fELF\x02", b"GIF89a\x01\x00", b"{\\rtf1\x00", b"text\x00", &far] {
            assert_eq!(sniffed(bytes), Sniffed::Unknown, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
