use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// The maximum of outcomes that a policy can name and caps can allow.
///
/// Of a longer list in a request, only the first `MAX_OUTCOMES` entries are kept.
pub const MAX_OUTCOMES: usize = 64;

/// The maximum length of an outcome's text, in bytes. A longer text in a request is not kept, and is never eligible.
pub const MAX_OUTCOME_BYTES: usize = 64;

/// The result of a piece of work, on which it may be retried: `not_found`, `timeout`, `busy`.
///
/// Implemented for every type with these four traits. With an enum, an unknown outcome cannot be represented. With `String`,
/// the default of the generic types here, the configuration defines the names.
///
/// The text that [`Display`] writes must parse back to the same value. [`Caps::merge`](crate::Caps::merge) checks that for
/// each eligible outcome. The parser may accept other spellings, too: the policy keeps the value, and is written with the
/// canonical text.
///
/// ```
/// use std::{fmt, str::FromStr};
///
/// #[derive(Clone, Debug, PartialEq, Eq)]
/// enum Verdict { NotFound, Error }
///
/// impl fmt::Display for Verdict {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str(match self { Self::NotFound => "not_found", Self::Error => "error" })
///     }
/// }
///
/// impl FromStr for Verdict {
///     type Err = ();
///     fn from_str(text: &str) -> Result<Self, ()> {
///         match text { "not_found" => Ok(Self::NotFound), "error" => Ok(Self::Error), _ => Err(()) }
///     }
/// }
///
/// fn is_outcome<O: account_retry_policy::Outcome>() {}
/// is_outcome::<Verdict>();
/// is_outcome::<String>();
/// ```
pub trait Outcome: Clone + Eq + Display + FromStr {}

impl<T: Clone + Eq + Display + FromStr> Outcome for T {}

/// Serialises outcomes as an array of their texts.
pub(crate) struct Texts<'a, O>(pub(crate) &'a [O]);

impl<O: Display> Serialize for Texts<'_, O> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for outcome in self.0 {
            seq.serialize_element(&Text(outcome))?;
        }
        seq.end()
    }
}

struct Text<'a, O>(&'a O);

impl<O: Display> Serialize for Text<'_, O> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// Reads a list of a configuration file, where an unknown text is an error. For `#[serde(deserialize_with)]`.
pub(crate) fn list<'de, D, O>(deserializer: D) -> Result<Vec<O>, D::Error>
where
    D: Deserializer<'de>,
    O: FromStr,
{
    let parsed = Vec::<Parsed<O>>::deserialize(deserializer)?;
    Ok(parsed.into_iter().map(|parsed| parsed.0).collect())
}

/// As [`list`], for an optional list.
pub(crate) fn optional_list<'de, D, O>(deserializer: D) -> Result<Option<Vec<O>>, D::Error>
where
    D: Deserializer<'de>,
    O: FromStr,
{
    let parsed = Option::<Vec<Parsed<O>>>::deserialize(deserializer)?;
    Ok(parsed.map(|list| list.into_iter().map(|parsed| parsed.0).collect()))
}

struct Parsed<O>(O);

impl<'de, O: FromStr> Deserialize<'de> for Parsed<O> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<O>(PhantomData<O>);

        impl<O: FromStr> serde::de::Visitor<'_> for Visitor<O> {
            type Value = Parsed<O>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the text of an outcome")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Parsed<O>, E> {
                text.parse().map(Parsed).map_err(|_| E::custom(format_args!("unknown outcome `{text}`")))
            }
        }

        deserializer.deserialize_str(Visitor(PhantomData))
    }
}
