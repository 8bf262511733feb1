//! The fields of a JSON object, each as it was sent: numbers by their own text, so that money never passes through a double.

use std::collections::HashMap;

use serde::de::{DeserializeOwned, IgnoredAny};

/// The members of a JSON object by name, each value by its own text. What is not an object has none; of a name that is there
/// twice, the last counts.
///
/// `serde_json` would give the texts itself, by its feature `raw_value`, but a feature is on in the whole build, and with
/// that one a member of a certain name begins a new document inside of a `Value`, with a new limit of depth: of 130 KB so
/// nested, a debug build overflows its stack.
#[derive(Debug)]
pub struct Fields<'a>(HashMap<String, &'a str>);

/// What was sent in one field.
#[derive(Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Nothing, or `null`: clients that have a field and no value for it send that.
    Missing,
    Text(String),
    /// The number's own text. Read as a double, it would be another number.
    Number(&'a str),
    /// `true`, `false`, an array, an object.
    Other,
}

/// What cannot be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonError {
    /// There is nothing but white space.
    Empty,
    Malformed,
}

impl<'a> Fields<'a> {
    /// # Errors
    /// The body is empty or not JSON.
    pub fn read(body: &'a [u8]) -> Result<Self, JsonError> {
        if body.trim_ascii().is_empty() {
            return Err(JsonError::Empty);
        }
        let text = std::str::from_utf8(body).ok();
        text.and_then(|text| Parser { rest: text }.members()).map(Self).ok_or(JsonError::Malformed)
    }

    /// # Errors
    /// The field is a text that is none: `"\ud800"` passes as syntax and stands for no character.
    pub fn get(&self, name: &str) -> Result<FieldValue<'a>, JsonError> {
        self.json(name).map_or(Ok(FieldValue::Missing), FieldValue::of)
    }

    /// The JSON of a field that is there and not `null`.
    pub fn json(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied().filter(|json| *json != "null")
    }
}

impl<'a> FieldValue<'a> {
    /// What one value's JSON stands for.
    ///
    /// # Errors
    /// As [`Fields::get`].
    pub fn of(json: &'a str) -> Result<Self, JsonError> {
        Ok(match json.as_bytes() {
            [b'"', ..] => FieldValue::Text(serde_json::from_str(json).map_err(|_| JsonError::Malformed)?),
            [b'-' | b'0'..=b'9', ..] => FieldValue::Number(json),
            _ => FieldValue::Other,
        })
    }

    /// An empty text as what it is in a form: nothing.
    #[must_use]
    pub fn filled(self) -> Self {
        match self {
            Self::Text(text) if text.trim().is_empty() => Self::Missing,
            other => other,
        }
    }
}

/// The elements of a JSON array, each by its own text; `None` if it is none.
pub fn elements(json: &str) -> Option<Vec<&str>> {
    Parser { rest: json }.elements()
}

/// How many members a JSON object has; `None` if it is none. Of a name that is there twice, one counts.
pub fn members(json: &str) -> Option<usize> {
    let is_object = json.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
    Parser { rest: json }.members().filter(|_| is_object).map(|members| members.len())
}

/// What is not read yet of a body. Every value is read by `serde_json`, which skips without recursion; between them there
/// is only the punctuation of the outermost object.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// `None` if it is not JSON, from the first character to the last.
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

    /// `None` if it is not an array, from the first character to the last.
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

    /// The next value, and its text.
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

    /// RFC 8259, section 2: these four and no others.
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
    fn what_is_not_json_is_refused_wherever_it_is_not() {
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

    /// JSON, and what is nearly that.
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
        fn it_takes_what_serde_json_takes_and_finds_the_same(text in documents()) {
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
