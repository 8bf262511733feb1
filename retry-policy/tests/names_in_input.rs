//! Names in the input that `serde_json` also uses for itself, and numbers as its feature `arbitrary_precision` passes them on.

mod support;

use account_retry_policy::{
    Field::{self, Enabled, IntervalSeconds, MaxRetries, Outcomes},
    Reason::{AboveMax, BelowMin, Required, WrongType},
    RetryPolicy, RetryPolicyInput,
};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor, value};
use serde_json::{Value, json};

use support::{Verdict, basic, faults, policy};

const NUMBER: &str = "$serde_json::private::Number";

/// The names that `serde_json` and `toml` give to maps that stand for something else.
const PRIVATE: [&str; 3] = [NUMBER, "$serde_json::private::RawValue", "$__toml_private_datetime"];

fn right() -> Value {
    json!({"enabled": true, "max_retries": 3, "interval_seconds": 600, "outcomes": ["error"]})
}

#[test]
fn an_object_is_not_a_number_whatever_its_members_are_called() {
    for name in PRIVATE {
        for members in
            [format!(r#""{name}":"3""#), format!(r#""{name}":3,"x":[1]"#), format!(r#""x":1,"{name}":"3""#)]
        {
            let of = |fields: &str| faults(&fields.replace('@', &format!("{{{members}}}")), &basic());
            assert_eq!(
                of(r#"{"enabled":@,"max_retries":@,"interval_seconds":@,"outcomes":@}"#),
                [
                    (Enabled, None, WrongType),
                    (MaxRetries, None, WrongType),
                    (IntervalSeconds, None, WrongType),
                    (Outcomes, None, WrongType)
                ],
                "{members}",
            );
            let entries =
                of(r#"{"enabled":true,"max_retries":3,"interval_seconds":600,"outcomes":[@,"error"]}"#);
            assert_eq!(entries, [(Outcomes, Some(0), WrongType)], "{members}");
            assert_eq!(of("@"), [(Enabled, None, Required)], "{members}");
        }
    }
}

#[test]
fn an_escaped_name_is_the_same_name() {
    let escaped = r#"{"enabled":true,"max_retries":{"\u0024serde_json::private::Number":"3"},"interval_seconds":600,"outcomes":["error"]}"#;
    assert_eq!(faults(escaped, &basic()), [(MaxRetries, None, WrongType)]);
    let plain = r#"{"enabled":true,"max_\u0072etries":3,"interval_seconds":600,"outcomes":["error"]}"#;
    assert_eq!(faults(plain, &basic()), []);
}

#[test]
fn a_field_of_another_name_is_ignored_whatever_the_name() {
    for name in PRIVATE {
        for value in ["5", "\"5\"", "{}", "[1]", "null"] {
            let first = format!(
                r#"{{"{name}":{value},"enabled":true,"max_retries":3,"interval_seconds":600,"outcomes":["error"]}}"#
            );
            let last = format!(
                r#"{{"enabled":true,"max_retries":3,"interval_seconds":600,"outcomes":["error"],"{name}":{value}}}"#
            );
            for text in [first, last] {
                let from_text: RetryPolicyInput = serde_json::from_str(&text).unwrap();
                assert_eq!(from_text.parse(&basic()).unwrap(), policy(3, 600, &[Verdict::Error]), "{text}");
            }
        }
    }
}

#[test]
fn a_value_in_memory_is_read_as_its_text() {
    let mut value = right();
    value["max_retries"] = Value::Object([(NUMBER.to_owned(), json!("3"))].into_iter().collect());
    value[NUMBER] = json!("7");
    for input in [RetryPolicyInput::deserialize(&value).unwrap(), serde_json::from_value(value).unwrap()] {
        let violations = input.parse(&basic()).unwrap_err();
        let found: Vec<_> = violations.iter().map(|v| (v.field(), v.reason())).collect();
        assert_eq!(found, [(MaxRetries, WrongType)]);
    }
}

/// A reader like `serde_json` with `arbitrary_precision`: a number is a map of one key that is not in the input.
struct Precise<'a>(&'a Value);

struct NumberMap(Option<String>);

/// A key of the input.
struct Name<'a>(&'a str);

/// The key in front of a number's text: the same constant, whatever is asked for.
struct NumberKey;

impl<'de> Deserializer<'de> for Precise<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => visitor.visit_map(NumberMap(Some(number.to_string()))),
            Value::String(text) => visitor.visit_str(text),
            Value::Array(entries) => {
                visitor.visit_seq(value::SeqDeserializer::new(entries.iter().map(Precise)))
            }
            Value::Object(members) => visitor.visit_map(value::MapDeserializer::new(
                members.iter().map(|(key, value)| (Name(key), Precise(value))),
            )),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_> for Precise<'_> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Name<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_some(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_> for Name<'_> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for NumberKey {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_borrowed_str(NUMBER)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for NumberMap {
    type Error = value::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, value::Error> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(NumberKey).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, value::Error> {
        seed.deserialize(self.0.take().expect("the key came first").into_deserializer())
    }
}

fn precise(value: &Value) -> RetryPolicyInput {
    RetryPolicyInput::deserialize(Precise(value)).expect("any value is read")
}

#[test]
fn numbers_of_arbitrary_precision_are_numbers() {
    assert_eq!(precise(&right()).parse(&basic()).unwrap(), policy(3, 600, &[Verdict::Error]));
    for (number, reason) in [
        (json!(6), AboveMax),
        (json!(0), BelowMin),
        (json!(-1), BelowMin),
        (json!(u64::MAX), AboveMax),
        (json!(1e300), AboveMax),
        (json!(-1e300), BelowMin),
        (json!(3.0), WrongType),
        (json!(3.5), WrongType),
    ] {
        let mut value = right();
        value["max_retries"] = number.clone();
        let violations = precise(&value).parse(&basic()).unwrap_err();
        let found: Vec<_> = violations.iter().map(|v| (v.field(), v.reason())).collect();
        assert_eq!(found, [(MaxRetries, reason)], "{number}");
        assert_eq!(precise(&value), serde_json::from_value(value).unwrap(), "{number}");
    }
    assert_eq!(precise(&json!(7)).parse(&basic()).unwrap_err().iter().next().unwrap().field(), Field::Policy);
}

#[test]
fn with_arbitrary_precision_too_no_name_in_the_input_is_special() {
    let mut value = right();
    value[NUMBER] = json!("5");
    assert_eq!(precise(&value).parse(&basic()).unwrap(), policy(3, 600, &[Verdict::Error]));
    value["max_retries"] = Value::Object([(NUMBER.to_owned(), json!("3"))].into_iter().collect());
    let violations = precise(&value).parse(&basic()).unwrap_err();
    assert_eq!(
        violations.iter().map(|v| (v.field(), v.reason())).collect::<Vec<_>>(),
        [(MaxRetries, WrongType)]
    );
}

/// Very long integers keep their sign, and a minus zero is what it is as a float.
#[test]
fn a_number_has_one_meaning_with_and_without_arbitrary_precision() {
    for (text, reason) in [
        ("-0", WrongType),
        ("9223372036854775808", AboveMax),
        (&"9".repeat(200), AboveMax),
        (&format!("-{}", "9".repeat(200)), BelowMin),
        ("1e18", WrongType),
    ] {
        let json =
            format!(r#"{{"enabled":true,"max_retries":{text},"interval_seconds":600,"outcomes":["error"]}}"#);
        assert_eq!(faults(&json, &basic()), [(MaxRetries, None, reason)], "{text}");

        // As a map whose text is this long.
        let map = NumberMap(Some(text.to_owned()));
        let fields = vec![("enabled", Sent::Bool(true)), ("max_retries", Sent::Number(map))];
        let input = RetryPolicyInput::deserialize(value::MapDeserializer::new(fields.into_iter())).unwrap();
        let violations = input.parse(&basic()).unwrap_err();
        let first = violations.iter().next().unwrap();
        assert_eq!((first.field(), first.reason()), (MaxRetries, reason), "{text}");
    }
}

enum Sent {
    Bool(bool),
    Number(NumberMap),
}

impl<'de> Deserializer<'de> for Sent {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        match self {
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(map) => visitor.visit_map(map),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_> for Sent {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

#[test]
fn what_is_saved_reads_back_from_a_precise_reader() {
    let saved = serde_json::to_value(policy(4_000_000_000, 1, &[Verdict::Error])).unwrap();
    let restored: RetryPolicy<Verdict> = precise(&saved).restore().unwrap();
    assert_eq!(serde_json::to_value(restored).unwrap(), saved);
}
