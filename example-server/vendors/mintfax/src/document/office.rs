//! Recognises office documents among ZIP archives by the file names in their central directory.
//!
//! Nothing is unpacked.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};

use zip::ZipArchive;
use zip::result::ZipError;

use super::MediaType;

/// The maximum number of bytes to read. The directory of an office document is far smaller. The
/// archive in memory takes several times as much.
const MAX_READ: usize = 1024 * 1024;

/// The name that every office document contains.
const CONTENT_TYPES: &str = "[Content_Types].xml";

/// Returns the media type, or `None` if the file is another archive or not a valid one.
///
/// # Errors
/// The file cannot be read.
pub(super) fn media_type(file: &mut File) -> Result<Option<MediaType>> {
    file.rewind()?;
    let archive = match ZipArchive::new(Bounded { file, left: MAX_READ }) {
        Ok(archive) => archive,
        Err(ZipError::Io(error)) if !is_of_archive(&error) => return Err(error),
        Err(_) => return Ok(None),
    };
    let (mut has_content_types, mut found) = (false, None);
    // A name that is not text is none of those below.
    for name in archive.file_names().flatten() {
        has_content_types = has_content_types || name == CONTENT_TYPES;
        if name.starts_with("word/") {
            found = Some(MediaType::Docx);
        } else if name.starts_with("xl/") {
            found = Some(MediaType::Xlsx);
        }
    }
    Ok(found.filter(|_| has_content_types))
}

/// Returns whether the archive caused the error: it ends too soon, points outside of the file, or
/// has too large a directory.
fn is_of_archive(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::FileTooLarge
    )
}

/// A file of which a limited number of bytes is read.
struct Bounded<'a> {
    file: &'a mut File,
    left: usize,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self.left.checked_sub(read).ok_or(ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, position: SeekFrom) -> Result<u64> {
        self.file.seek(position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// Builds an archive of files of one byte with these names.
    fn archive(names: &[&str], comment: &str) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.set_comment(comment).unwrap();
        for name in names {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(b"x").unwrap();
        }
        writer.finish().unwrap().into_inner()
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
        assert_eq!(found(&archive(&docx, "")), Some(MediaType::Docx));
        assert_eq!(found(&archive(&docx, "a comment")), Some(MediaType::Docx));
        assert_eq!(found(&archive(&xlsx, "")), Some(MediaType::Xlsx));
        assert_eq!(found(&archive(&["letter.txt", "word/document.xml"], "")), None);
        assert_eq!(found(&archive(&["[Content_Types].xml", "ppt/presentation.xml"], "")), None);
    }

    #[test]
    fn a_broken_archive_has_no_media_type() {
        let whole = archive(&["[Content_Types].xml", "word/document.xml"], "");
        for cut in [4, 20, whole.len() - 1] {
            assert_eq!(found(&whole[..cut]), None, "{cut}");
        }
        // The end record points outside of the file.
        let at = whole.len() - 6;
        let mut broken = whole;
        broken[at..at + 4].copy_from_slice(&[0xfe, 0xff, 0xff, 0x7f]);
        assert_eq!(found(&broken), None);
        assert_eq!(found(b"PK\x03\x04 and nothing else"), None);
    }

    #[test]
    fn a_directory_that_is_too_large_is_not_read() {
        let names: Vec<_> = (0..30_000).map(|number| format!("word/{number}")).collect();
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        names.push(CONTENT_TYPES);
        assert_eq!(found(&archive(&names, "")), None);
        assert_eq!(found(&archive(&names[20_000..], "")), Some(MediaType::Docx));
    }
}
