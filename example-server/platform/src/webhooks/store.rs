//! The queries of webhooks, as functions on a connection. None of them begins or ends a
//! transaction.

pub mod deliveries;
pub mod endpoints;
pub(super) mod secrets;

use jiff::Timestamp;

fn time(millis: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn number<T: TryFrom<i64>>(value: i64) -> sqlx::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(value).map_err(|error| sqlx::Error::Decode(error.into()))
}
