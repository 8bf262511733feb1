//! What the API keeps, as functions on a connection; none of them opens or ends a transaction.

pub(super) mod attempts;
pub(super) mod ceps;
pub(super) mod policies;
pub(super) mod usage;
pub(super) mod validations;

use jiff::Timestamp;

/// A value as a column of the database has it.
fn column<T, U: TryFrom<T>>(value: T) -> sqlx::Result<U>
where
    U::Error: std::error::Error + Send + Sync + 'static,
{
    U::try_from(value).map_err(|fault| sqlx::Error::Decode(fault.into()))
}

/// The value with this text.
fn named<T: std::str::FromStr>(text: &str) -> sqlx::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|fault: T::Err| sqlx::Error::Decode(fault.into()))
}

/// The time so many milliseconds after 1970.
fn time(millis: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|fault| sqlx::Error::Decode(fault.into()))
}
