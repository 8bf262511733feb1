//! Conversions of column values.

use jiff::Timestamp;

/// Converts a column value, or fails with a decode error.
pub fn column<T, U: TryFrom<T>>(value: T) -> sqlx::Result<U>
where
    U::Error: std::error::Error + Send + Sync + 'static,
{
    U::try_from(value).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Parses the text of a column, or fails with a decode error.
pub fn named<T: std::str::FromStr>(text: &str) -> sqlx::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| sqlx::Error::Decode(error.into()))
}

/// Converts milliseconds since the Unix epoch, or fails with a decode error.
pub fn time(millis: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|error| sqlx::Error::Decode(error.into()))
}
