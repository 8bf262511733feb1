//! Decoding of pages whose character set is not always the one they declare.

use std::borrow::Cow;

/// Decodes UTF-8, and takes each invalid byte as a Latin-1 character.
///
/// A page in either character set is decoded, whatever it declares, and so is a page that mixes
/// both.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().copied().map(char::from));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_and_latin_1_are_decoded_even_when_mixed() {
        let cases: [(&[u8], &str); 4] = [
            ("información".as_bytes(), "información"),
            (b"informaci\xF3n", "información"),
            (b"ning\xFAn pago \xC3\xBAnico", "ningún pago único"),
            (b"", ""),
        ];
        for (bytes, text) in cases {
            assert_eq!(decode(bytes), text);
        }
    }
}
