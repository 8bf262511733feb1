//! Reads any value with one visitor. It looks three levels deep (policy, field, entry) and skips everything below, so deeply
//! nested input costs nothing and meets no recursion limit.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Entries, Entry, FieldValue, RetryPolicyInput};

/// The key under which `serde_json` passes on a number as a map, with its feature `arbitrary_precision`, which any crate
/// of a build can switch on for all. Input can hold the same name: [`Key`] distinguishes the two.
const NUMBER: &str = "$serde_json::private::Number";

pub(super) fn input<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RetryPolicyInput, D::Error> {
    Ok(match Level::Policy.deserialize(deserializer)? {
        Raw::Object(input) => *input,
        _ => RetryPolicyInput { not_an_object: true, ..RetryPolicyInput::default() },
    })
}

/// A value, reduced to what the rules need.
enum Raw {
    Bool(bool),
    /// Saturated: what matters is that it is out of range.
    Integer(i64),
    Text(Entry),
    /// Only from [`Level::Field`].
    Array(Entries),
    /// Only from [`Level::Policy`].
    Object(Box<RetryPolicyInput>),
    Other,
}

impl Raw {
    fn float(float: f64) -> Self {
        const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
        if float >= TWO_POW_63 {
            Self::Integer(i64::MAX)
        } else if float <= -TWO_POW_63 {
            Self::Integer(i64::MIN)
        } else {
            Self::Other
        }
    }
}

#[derive(Clone, Copy)]
enum Level {
    Policy,
    Field,
    Entry,
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Integer(value.try_into().unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.try_into().unwrap_or(i64::MAX)))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Integer(value.try_into().unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(Entry::text(value)))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Raw, E> {
        Ok(Raw::Other)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Other)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut entries = Entries::default();
        if let Self::Field = self {
            while let Some(raw) = seq.next_element_seed(Self::Entry)? {
                let entry = if let Raw::Text(entry) = raw { entry } else { Entry::WrongType };
                if !entries.push(entry) {
                    break;
                }
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(if let Self::Field = self { Raw::Array(entries) } else { Raw::Other })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut input = RetryPolicyInput::default();
        while let Some(key) = map.next_key_seed(KeySeed { in_input: false })? {
            match (self, key) {
                (_, Key::Number) => {
                    let number = map.next_value_seed(NumberText)?;
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    return Ok(number);
                }
                (Self::Policy, Key::Member(member)) => fill(&mut input, member, &mut map)?,
                (Self::Policy, Key::Other) | (Self::Field | Self::Entry, _) => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(if let Self::Policy = self { Raw::Object(Box::new(input)) } else { Raw::Other })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Raw, A::Error> {
        IgnoredAny.visit_enum(data)?;
        Ok(Raw::Other)
    }
}

/// The key of a map.
enum Key {
    Member(Member),
    /// Not in the input: `serde_json` writes it in front of a number's text.
    Number,
    Other,
}

#[derive(Clone, Copy)]
enum Member {
    Enabled,
    MaxRetries,
    IntervalSeconds,
    Outcomes,
}

impl Key {
    fn named(name: &str) -> Self {
        Self::Member(match name {
            "enabled" => Member::Enabled,
            "max_retries" => Member::MaxRetries,
            "interval_seconds" => Member::IntervalSeconds,
            "outcomes" => Member::Outcomes,
            _ => return Self::Other,
        })
    }
}

/// Reads a key, and tells a name in the input from [`NUMBER`] as `serde_json` writes it.
///
/// It asks for an optional key. A reader answers that with `visit_some` for a key of the input, and the name inside is then a
/// name, whatever it says. `serde_json`'s number is not read from the input, answers every question with the constant, and
/// so arrives at `visit_borrowed_str` directly.
struct KeySeed {
    in_input: bool,
}

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_option(self)
    }
}

/// Formats other than JSON have keys that are not text.
impl<'de> Visitor<'de> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(Self { in_input: true })
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key, E> {
        Ok(if name == NUMBER && !self.in_input { Key::Number } else { Key::named(name) })
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(Key::named(name))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_none<E>(self) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_unit<E>(self) -> Result<Key, E> {
        Ok(Key::Other)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Key, A::Error> {
        IgnoredAny.visit_seq(seq)?;
        Ok(Key::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Key, A::Error> {
        IgnoredAny.visit_map(map)?;
        Ok(Key::Other)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Key, A::Error> {
        IgnoredAny.visit_enum(data)?;
        Ok(Key::Other)
    }
}

/// Reads the text of a number that `serde_json` wrote, to the same result as without `arbitrary_precision`.
struct NumberText;

impl<'de> DeserializeSeed<'de> for NumberText {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NumberText {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text of a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(match (text.parse(), text.parse()) {
            // JSON readers hand it on as the float -0.0.
            (Ok(0), _) if text.starts_with('-') => Raw::Other,
            (Ok(integer), _) => Raw::Integer(integer),
            (_, Ok(float)) => Raw::float(float),
            _ => Raw::Other,
        })
    }
}

/// Reads a field into `input`. If it was there before, the new value counts.
fn fill<'de, A: MapAccess<'de>>(
    input: &mut RetryPolicyInput,
    member: Member,
    map: &mut A,
) -> Result<(), A::Error> {
    let integer = |raw| if let Raw::Integer(value) = raw { Some(value) } else { None };
    match member {
        Member::Enabled => {
            input.enabled = value(map, |raw| if let Raw::Bool(value) = raw { Some(value) } else { None })?;
        }
        Member::MaxRetries => input.max_retries = value(map, integer)?,
        Member::IntervalSeconds => input.interval_seconds = value(map, integer)?,
        Member::Outcomes => {
            let array = |raw| if let Raw::Array(entries) = raw { Some(entries) } else { None };
            input.outcomes = value(map, array)?;
        }
    }
    Ok(())
}

fn value<'de, A: MapAccess<'de>, T>(
    map: &mut A,
    wanted: impl FnOnce(Raw) -> Option<T>,
) -> Result<FieldValue<T>, A::Error> {
    Ok(wanted(map.next_value_seed(Level::Field)?).map_or(FieldValue::WrongType, FieldValue::Value))
}
