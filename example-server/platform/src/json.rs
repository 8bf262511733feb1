//! A JSON object whose fields keep the text that was sent, so that amounts of money are never
//! converted to floating point.

use std::collections::HashMap;

use serde::de::{DeserializeOwned, IgnoredAny};

/// The members of a JSON object by name, each with the text of its value. If a name occurs twice,
/// the last one counts. A JSON value that is not an object has no members.
///
/// `serde_json` has a feature `raw_value` for this, but features apply to the whole build. With
/// that feature, a member of a certain name begins a new document inside a `Value`, with a new
/// depth limit. In a debug build, 130 KB of JSON nested this way overflow the stack.
#[derive(Debug)]
pub struct Fields<'a>(HashMap<String, &'a str>);

/// The value of one field.
#[derive(Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// The field is missing or `null`. Some clients send `null` for a field without a value.
    Missing,
    Text(String),
    /// The text of the number. A conversion to floating point would change the number.
    Number(&'a str),
    /// `true`, `false`, an array or an object.
    Other,
}

/// An error of reading JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonError {
    /// There is only white space.
    Empty,
    Malformed,
}

impl<'a> Fields<'a> {
    /// Parses a request body.
    ///
    /// # Errors
    ///
    /// If the body is empty or not JSON.
    pub fn read(body: &'a [u8]) -> Result<Self, JsonError> {
        if body.trim_ascii().is_empty() {
            return Err(JsonError::Empty);
        }
        let text = std::str::from_utf8(body).ok();
        text.and_then(|text| Parser { rest: text }.members()).map(Self).ok_or(JsonError::Malformed)
    }

    /// Returns the value of a field.
    ///
    /// # Errors
    ///
    /// If the field is a string with a lone surrogate, such as `"\ud800"`: valid syntax, but not a
    /// character.
    pub fn get(&self, name: &str) -> Result<FieldValue<'a>, JsonError> {
        self.json(name).map_or(Ok(FieldValue::Missing), FieldValue::of)
    }

    /// Returns the JSON of a field, or `None` if it is missing or `null`.
    pub fn json(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied().filter(|json| *json != "null")
    }
}

impl<'a> FieldValue<'a> {
    /// Parses the JSON of one value.
    ///
    /// # Errors
    ///
    /// As for [`Fields::get`].
    pub fn of(json: &'a str) -> Result<Self, JsonError> {
        Ok(match json.as_bytes() {
            [b'"', ..] => FieldValue::Text(serde_json::from_str(json).map_err(|_| JsonError::Malformed)?),
            [b'-' | b'0'..=b'9', ..] => FieldValue::Number(json),
            _ => FieldValue::Other,
        })
    }

    /// Turns a blank text into [`Missing`](Self::Missing), as forms send blank text for an empty
    /// field.
    #[must_use]
    pub fn filled(self) -> Self {
        match self {
            Self::Text(text) if text.trim().is_empty() => Self::Missing,
            other => other,
        }
    }
}

/// Returns the text of each element of a JSON array, or `None` if the JSON is not an array.
pub fn elements(json: &str) -> Option<Vec<&str>> {
    Parser { rest: json }.elements()
}

/// Returns the number of members of a JSON object, or `None` if the JSON is not an object. Counts a
/// name that occurs twice once.
pub fn members(json: &str) -> Option<usize> {
    let is_object = json.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
    Parser { rest: json }.members().filter(|_| is_object).map(|members| members.len())
}

/// A parser of the outermost object or array. `serde_json` reads the values, and skips nested ones
/// without recursion, so only the punctuation between them is left to parse here.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Parses the whole text as an object. Returns no members for other JSON, and `None` for text
    /// that is not JSON.
    fn members(mut self) -> Option<HashMap<String, &'a str>> {
        let mut members = HashMap::new();
        if self.skip('{').is_none() {
            self.value::<IgnoredAny>()?;
        } else if self.skip('}').is_none() {
            loop {
                let (name, _) = self.value::<String>()?;
                self.skip(':')?;
                let (_, json) = self.value::<IgnoredAny>()?;
                members.insert(name, json);
                if self.skip(',').is_none() {
                    break;
                }
            }
            self.skip('}')?;
        }
        self.space();
        self.rest.is_empty().then_some(members)
    }

    /// Parses the whole text as an array. Returns `None` for anything else.
    fn elements(mut self) -> Option<Vec<&'a str>> {
        let mut elements = Vec::new();
        self.skip('[')?;
        if self.skip(']').is_none() {
            loop {
                elements.push(self.value::<IgnoredAny>()?.1);
                if self.skip(',').is_none() {
                    break;
                }
            }
            self.skip(']')?;
        }
        self.space();
        self.rest.is_empty().then_some(elements)
    }

    /// Parses the next value. Returns it with its text.
    fn value<T: DeserializeOwned>(&mut self) -> Option<(T, &'a str)> {
        self.space();
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter();
        let value = values.next()?.ok()?;
        let (json, rest) = self.rest.split_at(values.byte_offset());
        self.rest = rest;
        Some((value, json))
    }

    fn skip(&mut self, expected: char) -> Option<()> {
        self.space();
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// Skips white space, which is these four characters only (RFC 8259, section 2).
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_member_keeps_the_text_it_was_sent_with() {
        let body = "\t{ \"a\" : 1.50 ,\"b\\u0063\":[ 1,{\"a\":\"}\"} ] , \"d\":\"x\\\"y\" , \"e\":{}, \"a\":-1e400\r\n}\n";
        let fields = Fields::read(body.as_bytes()).unwrap();
        for (name, json) in [
            ("a", Some("-1e400")),
            ("bc", Some("[ 1,{\"a\":\"}\"} ]")),
            ("d", Some(r#""x\"y""#)),
            ("e", Some("{}")),
            ("f", None),
        ] {
            assert_eq!(fields.json(name), json, "{name}");
        }
        assert_eq!(fields.get("d").unwrap(), FieldValue::Text("x\"y".into()));
    }

    #[test]
    fn malformed_json_is_refused_wherever_the_error_is() {
        for body in [
            "{",
            "}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{,}",
            "{1:2}",
            "{a:1}",
            "{'a':1}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":1}}",
            "{} x",
            "[1,]",
            "01",
            "1 2",
            "nul",
            "\"a",
            "{\"a\":\"\n\"}",
            "{\"a\":\u{a0}1}",
            "\u{feff}{}",
            "{\"a\":+1}",
            "{\"a\":.5}",
            "{\"a\":1.}",
            "{\"a\":[}",
            "{\"a\":\"\\x\"}",
        ] {
            assert_eq!(Fields::read(body.as_bytes()).unwrap_err(), JsonError::Malformed, "{body:?}");
        }
    }

    #[test]
    fn the_elements_of_an_array_keep_their_texts() {
        for (json, expected) in [
            ("[]", Some(vec![])),
            (" [ 1.50 ,\"a,b\", {\"a\":[2]},[]] ", Some(vec!["1.50", "\"a,b\"", "{\"a\":[2]}", "[]"])),
            ("[1,]", None),
            ("[1", None),
            ("[1] 2", None),
            ("{}", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(elements(json), expected, "{json}");
        }
    }

    /// Generates JSON and near misses.
    fn documents() -> impl Strategy<Value = String> {
        prop_oneof![
            "[\\[\\]{}:,\"a1 ]{0,24}",
            r#"\{("a" ?:(1|"x"|\[\]|\{"b":2\}|null),?){0,4}\}?"#,
            r#" ?(1|true|"x"|\[1, 2\]|\{\}) ?,?"#,
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn it_accepts_what_serde_json_accepts_and_finds_the_same_members(text in documents()) {
            prop_assume!(!text.trim().is_empty());
            match (Fields::read(text.as_bytes()), serde_json::from_str::<Value>(&text)) {
                (Ok(fields), Ok(value)) => {
                    let members = value.as_object().cloned().unwrap_or_default();
                    prop_assert_eq!(fields.0.len(), members.len());
                    for (name, value) in &members {
                        prop_assert_eq!(&serde_json::from_str::<Value>(fields.0[name]).unwrap(), value);
                    }
                }
                (Err(_), Err(_)) => {}
                (ours, theirs) => prop_assert!(false, "{:?} {:?}", ours, theirs),
            }
        }
    }
}
