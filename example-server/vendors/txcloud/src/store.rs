//! The API's tables, as functions on a connection. None of them begins or ends a transaction.

pub(super) mod documents;
pub(super) mod sessions;
pub(super) mod verifications;

use serde::de::DeserializeOwned;

use super::engines::identity::IdentityCheck;
use platform::db::columns::named;

/// Formats checks for a column, separated by commas.
fn to_list(checks: &[IdentityCheck]) -> String {
    checks.iter().map(|check| check.as_str()).collect::<Vec<_>>().join(",")
}

fn of_list(list: &str) -> sqlx::Result<Vec<IdentityCheck>> {
    list.split(',').filter(|name| !name.is_empty()).map(named).collect()
}

/// Parses a JSON column.
fn json<T: DeserializeOwned>(text: &str) -> sqlx::Result<T> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

#[cfg(test)]
mod tests;
