//! Text from a site whose pages are not always in the character set they say.

use std::borrow::Cow;

/// Reads UTF-8, and each byte that is none as the character of Latin-1 that it is. So a page is read in either, whatever it
/// says of itself, and one that mixes both is too.
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
    fn text_is_read_in_either_character_set_and_in_both_at_once() {
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
