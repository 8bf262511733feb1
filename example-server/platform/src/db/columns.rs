//! Columns as they are read.

use jiff::Timestamp;

/// A value as a column of the database has it.
pub fn column<T, U: TryFrom<T>>(value: T) -> sqlx::Result<U>
where
    U::Error: std::error::Error + Send + Sync + 'static,
{
    U::try_from(value).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The value with this text.
pub fn named<T: std::str::FromStr>(text: &str) -> sqlx::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| sqlx::Error::Decode(error.into()))
}

/// The time so many milliseconds after 1970.
pub fn time(millis: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|error| sqlx::Error::Decode(error.into()))
}
