//! Recognises office documents among ZIP archives by the file names in their central directory.
//!
//! The directory is at the end of the archive: an entry for each name, followed by a record that
//! says where the directory begins (APPNOTE 6.3.10, 4.3.12 and 4.3.16). Nothing is unpacked.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};

use super::MediaType;

/// The size of the end record, and the maximum length of the comment after it.
const END: usize = 22;
const MAX_COMMENT: u64 = 0xffff;
/// The size of an entry before its name.
const ENTRY: usize = 46;
/// The maximum size of a directory. That of an office document is far smaller.
const MAX_DIRECTORY: u64 = 1024 * 1024;

/// The name that every office document contains.
const CONTENT_TYPES: &[u8] = b"[Content_Types].xml";

/// Returns the media type, or `None` if the file is another archive or not a valid one.
pub(super) fn media_type(file: &mut File) -> Result<Option<MediaType>> {
    let Some(directory) = directory(file)? else { return Ok(None) };
    let (mut typed, mut found) = (false, None);
    let mut rest = &directory[..];
    while let Some((name, after)) = entry(rest) {
        rest = after;
        typed = typed || name == CONTENT_TYPES;
        if name.starts_with(b"word/") {
            found = Some(MediaType::Docx);
        } else if name.starts_with(b"xl/") {
            found = Some(MediaType::Xlsx);
        }
    }
    Ok(found.filter(|_| typed))
}

fn directory(file: &mut File) -> Result<Option<Vec<u8>>> {
    let length = file.seek(SeekFrom::End(0))?;
    let from = length.saturating_sub(END as u64 + MAX_COMMENT);
    let tail = read(file, from, length - from)?;
    let end = tail.windows(END).rposition(|window| window.starts_with(b"PK\x05\x06"));
    let Some(end) = end.map(|at| &tail[at..at + END]) else { return Ok(None) };
    let (size, offset) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
    if size > MAX_DIRECTORY || offset.saturating_add(size) > length {
        return Ok(None);
    }
    read(file, offset, size).map(Some)
}

fn read(file: &mut File, from: u64, length: u64) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the name of the first entry, and the entries after it.
fn entry(directory: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = directory.get(..ENTRY).filter(|head| head.starts_with(b"PK\x01\x02"))?;
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(head, at)));
    let after = ENTRY + name;
    Some((directory.get(ENTRY..after)?, directory.get(after + extra + comment..)?))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Builds an archive of empty files with these names, with only the parts that are read.
    fn archive(names: &[&str], comment: &[u8]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04 and so on".to_vec();
        let offset = u32::try_from(bytes.len()).unwrap();
        for name in names {
            let mut head = [0; ENTRY];
            head[..4].copy_from_slice(b"PK\x01\x02");
            head[28..30].copy_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(name.as_bytes());
        }
        let size = u32::try_from(bytes.len()).unwrap() - offset;
        let mut end = [0; END];
        end[..4].copy_from_slice(b"PK\x05\x06");
        end[12..16].copy_from_slice(&size.to_le_bytes());
        end[16..20].copy_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&end);
        bytes.extend_from_slice(comment);
        bytes
    }

    fn found(bytes: &[u8]) -> Option<MediaType> {
        let path = std::env::temp_dir().join(format!("example-server-zip-{}", uuid::Uuid::new_v4()));
        let mut file = File::create_new(&path).unwrap();
        file.write_all(bytes).unwrap();
        let found = media_type(&mut File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(path).unwrap();
        found
    }

    #[test]
    fn the_file_names_determine_the_media_type() {
        let docx = ["[Content_Types].xml", "_rels/.rels", "word/document.xml"];
        let xlsx = ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "[Content_Types].xml"];
        assert_eq!(found(&archive(&docx, b"")), Some(MediaType::Docx));
        assert_eq!(found(&archive(&docx, b"a comment")), Some(MediaType::Docx));
        assert_eq!(found(&archive(&xlsx, b"")), Some(MediaType::Xlsx));
        assert_eq!(found(&archive(&["letter.txt", "word/document.xml"], b"")), None);
        assert_eq!(found(&archive(&["[Content_Types].xml", "ppt/presentation.xml"], b"")), None);
    }

    #[test]
    fn a_broken_archive_has_no_media_type() {
        let whole = archive(&["[Content_Types].xml", "word/document.xml"], b"");
        for cut in [4, 20, whole.len() - 1] {
            assert_eq!(found(&whole[..cut]), None, "{cut}");
        }
        // The end record points outside of the file.
        for at in [whole.len() - 10, whole.len() - 6] {
            let mut broken = whole.clone();
            broken[at..at + 4].fill(0xff);
            assert_eq!(found(&broken), None, "{at}");
        }
    }
}
