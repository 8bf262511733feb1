//! The client's own reference for a validation.

use serde::Serialize;
use utoipa::ToSchema;

/// The field `client_ref`: 1 to 64 characters. It is returned unchanged, and a search matches it
/// exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(min_length = 1, max_length = 64, example = "orden-4812")]
pub struct ClientRef(String);

impl ClientRef {
    const MAX_CHARS: usize = 64;

    /// Parses a reference. Surrounding spaces are removed first. Returns `None` if the rest does
    /// not have 1 to 64 characters, or contains a control character or an emoji (any character
    /// outside the basic multilingual plane).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(' ');
        let fits = (1..=Self::MAX_CHARS).contains(&text.chars().count())
            && !text.contains(|c: char| c.is_control() || c > '\u{FFFF}');
        fits.then(|| Self(text.to_owned()))
    }

    /// Returns the reference.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_1_to_64_characters_on_one_line() {
        let (longest, too_long) = ("ñ".repeat(64), "ñ".repeat(65));
        let cases = [
            ("orden-4812", Some("orden-4812")),
            (" orden 4812 ", Some("orden 4812")),
            (longest.as_str(), Some(longest.as_str())),
            (too_long.as_str(), None),
            ("", None),
            ("   ", None),
            ("orden\n4812", None),
            ("orden\n", None),
            ("orden\u{0}", None),
            ("orden\u{7F}", None),
            ("orden 🎉", None),
        ];
        for (text, expected) in cases {
            assert_eq!(ClientRef::parse(text).as_ref().map(ClientRef::as_str), expected, "{text:?}");
        }
    }
}
