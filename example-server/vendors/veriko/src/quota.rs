//! The limits of an account: validations in a month, and pending retries.

use jiff::Timestamp;
use platform::db::Connection;

use super::errors::Failure;
use super::model::Caps;
use super::store::validations::Inserted;
use super::store::{quota, usage, validations};
use super::user::User;
use super::validation::Validation;

/// Inserts a validation, and takes one unit of the quota of the month in which it was created. Returns
/// whether the account has an active webhook endpoint.
///
/// It locks a share of the quota until the transaction ends, so nothing after it may wait for another
/// transaction.
pub(super) async fn insert_charged(
    mut connection: Connection<'_>,
    user: &User,
    validation: &Validation,
) -> Result<bool, Failure> {
    let now = validation.created_at;
    let Inserted { has_endpoint, is_charged } =
        validations::insert(connection.reborrow(), validation).await?;
    if is_charged || quota::charge(connection, user.id(), &quota::month(now)).await? {
        Ok(has_endpoint)
    } else {
        Err(quota_exceeded(now))
    }
}

pub(super) fn quota_exceeded(now: Timestamp) -> Failure {
    Failure::quota_exceeded(usage::end_of_month(now).duration_since(now).unsigned_abs())
}

/// Checks that the account has capacity for this validation's cycle. The result holds until the
/// transaction ends.
pub(super) async fn ensure_retry_capacity(
    connection: Connection<'_>,
    validation: &Validation,
    caps: &Caps,
) -> Result<(), Failure> {
    room_for_one(usage::pending_alone(connection, &validation.account, validation.id).await?, caps)
}

/// Checks that one more cycle may be pending in addition to these.
pub(super) fn room_for_one(pending: u64, caps: &Caps) -> Result<(), Failure> {
    if pending < u64::from(caps.max_pending_per_user()) {
        Ok(())
    } else {
        Err(Failure::retry_pending_cap_exceeded())
    }
}
