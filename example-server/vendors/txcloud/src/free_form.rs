//! JSON of the caller's own that is only given back: `metadata`. It is kept as it was sent, so that a number has the digits
//! it came with: `1.10`, `1e400` and twenty digits are other numbers, or none, once they were a double.

use std::sync::LazyLock;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use platform::json;

/// A JSON object by its own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FreeForm(String);

impl FreeForm {
    /// The most that one may be, as JSON.
    pub(super) const MAX_BYTES: usize = 4096;
    pub(super) const MAX_MEMBERS: usize = 50;
    /// As deep as `serde_json` reads, which is what most clients do.
    const MAX_DEPTH: usize = 127;

    /// Takes the JSON of an object. `None` if it is larger or deeper than is allowed, or holds a text that not every
    /// database or client can keep: one with a NUL, or with half of a surrogate pair.
    pub(super) fn read(json: &str) -> Option<Self> {
        let fits = json.len() <= Self::MAX_BYTES && json::members(json)? <= Self::MAX_MEMBERS;
        (fits && is_plain(json)).then(|| Self(json.to_owned()))
    }

    /// Takes what [`as_json`](Self::as_json) gave.
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

/// What depth and texts there are, of JSON whose syntax is right.
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

/// The text that JSON begins with, and how many bytes it takes.
fn text(json: &str) -> Option<(String, usize)> {
    let mut texts = serde_json::Deserializer::from_str(json).into_iter::<String>();
    let text = texts.next()?.ok()?;
    Some((text, texts.byte_offset()))
}

/// Stands for the beginning of a free form while its document is made. Nobody outside of this process knows it, so no text
/// of a caller begins with it.
static MARK: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().simple().to_string());

/// As a marked text, which [`to_json`] puts in its place: `serde_json` has no way to write text as it is but a feature that
/// changes how all of the build reads (see [`Fields`](platform::json::Fields)).
impl Serialize for FreeForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{}", *MARK, self.0))
    }
}

/// Returns the JSON of a document, with each [`FreeForm`] in it as it was sent.
pub(super) fn to_json(document: &impl Serialize) -> String {
    // Our own structs with string keys: nothing in them can fail to serialise.
    let marked = serde_json::to_string(document).expect("a body of plain fields serialises");
    let (mut json, mut rest) = (String::with_capacity(marked.len()), marked.as_str());
    let beginning = format!("\"{}", *MARK);
    while let Some(place) = rest.find(&beginning) {
        json.push_str(&rest[..place]);
        let (text, bytes) = text(&rest[place..]).expect("what was written as a text is one");
        json.push_str(&text[MARK.len()..]);
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
    struct Shown<'a> {
        id: &'a str,
        metadata: FreeForm,
        more: Vec<FreeForm>,
    }

    #[test]
    fn what_is_given_back_has_the_digits_it_came_with() {
        for json in [
            "{}",
            r#"{"a":1.10,"b":1e400,"c":12345678901234567890123,"d":-0,"e":1E5}"#,
            "{ \"ñ\" : [ 1.0 , \"\\u00f1 \\\" } \" ] }",
            r#"{"a":{"b":[null,true,{"c":"]"}]}}"#,
        ] {
            let read = FreeForm::read(json).unwrap();
            let shown =
                Shown { id: "1", metadata: read.clone(), more: vec![read.clone(), FreeForm::default()] };
            assert_eq!(
                to_json(&shown),
                format!("{{\"id\":\"1\",\"metadata\":{json},\"more\":[{json},{{}}]}}")
            );
            assert_eq!(FreeForm::kept(read.as_json().to_owned()), read);
        }
    }

    #[test]
    fn a_text_of_the_caller_is_never_taken_for_a_mark() {
        let json = format!("{{\"a\":\"{}\"}}", "0".repeat(32));
        let shown = Shown { id: "\"\\", metadata: FreeForm::read(&json).unwrap(), more: Vec::new() };
        let value: Value = serde_json::from_str(&to_json(&shown)).unwrap();
        assert_eq!((&value["id"], &value["metadata"]["a"]), (&"\"\\".into(), &"0".repeat(32).into()));
    }

    #[test]
    fn what_cannot_be_kept_or_read_again_is_refused() {
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
        // That is a backslash, a `u` and four digits.
        assert!(FreeForm::read(r#"{"a":"\\u0000"}"#).is_some());
    }
}
