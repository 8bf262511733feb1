//! Free-form JSON of the caller, such as `metadata`, which is stored and returned unchanged.
//!
//! The text is kept as it was sent, because parsing would change numbers: `1.10`, `1e400` and
//! numbers of twenty digits do not survive as a double.

use std::sync::LazyLock;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use platform::json;

/// The text of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FreeForm(String);

impl FreeForm {
    /// The maximum size, in bytes of JSON.
    pub(super) const MAX_BYTES: usize = 4096;
    pub(super) const MAX_MEMBERS: usize = 50;
    /// The maximum depth that `serde_json` and most clients can read.
    const MAX_DEPTH: usize = 127;

    /// Validates the JSON of an object. Returns `None` if it is too large or too deep, or contains
    /// a text that some databases or clients cannot store: one with a NUL or an unpaired surrogate.
    pub(super) fn read(json: &str) -> Option<Self> {
        let fits = json.len() <= Self::MAX_BYTES && json::members(json)? <= Self::MAX_MEMBERS;
        (fits && is_plain(json)).then(|| Self(json.to_owned()))
    }

    /// Wraps a stored text that came from [`as_json`](Self::as_json).
    pub(super) fn kept(json: String) -> Self {
        Self(json)
    }

    pub(super) fn as_json(&self) -> &str {
        &self.0
    }
}

impl Default for FreeForm {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

/// Checks the depth and the texts of syntactically valid JSON.
fn is_plain(json: &str) -> bool {
    let (mut depth, mut rest) = (0_usize, json);
    while let Some(place) = rest.find(['"', '{', '[', '}', ']']) {
        let (character, after) = (rest.as_bytes()[place], &rest[place..]);
        let mut length = 1;
        match character {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => match text(after) {
                Some((text, bytes)) if !text.contains('\0') => length = bytes,
                _ => return false,
            },
        }
        if depth > FreeForm::MAX_DEPTH {
            return false;
        }
        rest = &after[length..];
    }
    true
}

/// Returns the text at the beginning of the JSON, and its length in bytes.
fn text(json: &str) -> Option<(String, usize)> {
    let mut texts = serde_json::Deserializer::from_str(json).into_iter::<String>();
    let text = texts.next()?.ok()?;
    Some((text, texts.byte_offset()))
}

/// The marker at the beginning of a serialised free form, which [`to_json`] removes. It is random
/// and never leaves this process, so no text of a caller begins with it.
static MARKER: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().simple().to_string());

/// Serialises as a marked text, which [`to_json`] replaces. `serde_json` can write raw text only
/// with a feature that changes how the whole build parses (see [`Fields`](platform::json::Fields)).
impl Serialize for FreeForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{}", *MARKER, self.0))
    }
}

/// Returns the JSON of a document, with each [`FreeForm`] in it as it was sent.
pub(super) fn to_json(document: &impl Serialize) -> String {
    // The document consists of our own structs with string keys, so serialising it cannot fail.
    let marked = serde_json::to_string(document).expect("a body of plain fields serialises");
    let (mut json, mut rest) = (String::with_capacity(marked.len()), marked.as_str());
    let beginning = format!("\"{}", *MARKER);
    while let Some(place) = rest.find(&beginning) {
        json.push_str(&rest[..place]);
        let (text, bytes) = text(&rest[place..]).expect("the marked form is a JSON text");
        json.push_str(&text[MARKER.len()..]);
        rest = &rest[place + bytes..];
    }
    json.push_str(rest);
    json
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[derive(Serialize)]
    struct Body<'a> {
        id: &'a str,
        metadata: FreeForm,
        more: Vec<FreeForm>,
    }

    #[test]
    fn numbers_are_returned_digit_for_digit() {
        for json in [
            "{}",
            r#"{"a":1.10,"b":1e400,"c":12345678901234567890123,"d":-0,"e":1E5}"#,
            "{ \"ñ\" : [ 1.0 , \"\\u00f1 \\\" } \" ] }",
            r#"{"a":{"b":[null,true,{"c":"]"}]}}"#,
        ] {
            let read = FreeForm::read(json).unwrap();
            let body =
                Body { id: "1", metadata: read.clone(), more: vec![read.clone(), FreeForm::default()] };
            assert_eq!(
                to_json(&body),
                format!("{{\"id\":\"1\",\"metadata\":{json},\"more\":[{json},{{}}]}}")
            );
            assert_eq!(FreeForm::kept(read.as_json().to_owned()), read);
        }
    }

    #[test]
    fn a_text_of_the_caller_is_never_taken_for_a_marker() {
        let json = format!("{{\"a\":\"{}\"}}", "0".repeat(32));
        let body = Body { id: "\"\\", metadata: FreeForm::read(&json).unwrap(), more: Vec::new() };
        let value: Value = serde_json::from_str(&to_json(&body)).unwrap();
        assert_eq!((&value["id"], &value["metadata"]["a"]), (&"\"\\".into(), &"0".repeat(32).into()));
    }

    #[test]
    fn json_that_cannot_be_stored_or_read_again_is_refused() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(FreeForm::read(&nested(126)).is_some());
        let members: Vec<_> = (0..=50).map(|number| format!("\"{number}\":1")).collect();
        for json in [
            nested(127),
            r#"{"a":"\u0000"}"#.to_owned(),
            r#"{"\u0000":1}"#.to_owned(),
            r#"{"a":"\ud800"}"#.to_owned(),
            format!("{{{}}}", members.join(",")),
            format!("{{\"a\":\"{}\"}}", "x".repeat(4096)),
        ] {
            assert_eq!(FreeForm::read(&json), None, "{json}");
        }
        // The text is a backslash, a `u` and four digits.
        assert!(FreeForm::read(r#"{"a":"\\u0000"}"#).is_some());
    }
}
