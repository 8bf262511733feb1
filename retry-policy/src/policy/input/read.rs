//! One visitor that takes any value. It goes three levels deep (policy, field, entry) and skips what lies below, so the
//! depth of the input costs nothing and meets no recursion limit.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Entries, Entry, Given, RetryPolicyInput};

/// With the `arbitrary_precision` feature, which any crate of a build can switch on for all, `serde_json` hands a number
/// on as a map with this one key and the number's text.
const NUMBER: &str = "$serde_json::private::Number";

pub(super) fn input<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RetryPolicyInput, D::Error> {
    Ok(match Level::Policy.deserialize(deserializer)? {
        Raw::Object(input) => *input,
        _ => RetryPolicyInput { not_an_object: true, ..RetryPolicyInput::default() },
    })
}

/// A value, as far as anybody here wants to know.
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
    fn is_text(&self, text: &str) -> bool {
        matches!(self, Self::Text(Entry::Text(own)) if own == text)
    }

    /// The number in a text that `serde_json` wrote.
    fn number(&self) -> Self {
        let Self::Text(Entry::Text(text)) = self else { return Self::Other };
        match (text.parse(), text.parse()) {
            (Ok(integer), _) => Self::Integer(integer),
            (_, Ok(float)) => Self::float(float),
            _ => Self::Other,
        }
    }

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
        while let Some(key) = map.next_key_seed(Self::Entry)? {
            if key.is_text(NUMBER) {
                let number = map.next_value_seed(Self::Entry)?.number();
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(number);
            }
            match self {
                Self::Policy => fill(&mut input, &key, &mut map)?,
                Self::Field | Self::Entry => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(if let Self::Policy = self { Raw::Object(Box::new(input)) } else { Raw::Other })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Raw, A::Error> {
        IgnoredAny.visit_enum(data)?;
        Ok(Raw::Other)
    }
}

/// A field that comes twice is overwritten.
fn fill<'de, A: MapAccess<'de>>(
    input: &mut RetryPolicyInput,
    key: &Raw,
    map: &mut A,
) -> Result<(), A::Error> {
    let integer = |raw| if let Raw::Integer(value) = raw { Some(value) } else { None };
    if key.is_text("enabled") {
        input.enabled = given(map, |raw| if let Raw::Bool(value) = raw { Some(value) } else { None })?;
    } else if key.is_text("max_retries") {
        input.max_retries = given(map, integer)?;
    } else if key.is_text("interval_seconds") {
        input.interval_seconds = given(map, integer)?;
    } else if key.is_text("outcomes") {
        input.outcomes = given(map, |raw| if let Raw::Array(entries) = raw { Some(entries) } else { None })?;
    } else {
        map.next_value::<IgnoredAny>()?;
    }
    Ok(())
}

fn given<'de, A: MapAccess<'de>, T>(
    map: &mut A,
    wanted: impl FnOnce(Raw) -> Option<T>,
) -> Result<Given<T>, A::Error> {
    Ok(wanted(map.next_value_seed(Level::Field)?).map_or(Given::WrongType, Given::Value))
}
