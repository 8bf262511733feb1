//! Statements with their parameters.

use std::mem::discriminant;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgBindIterExt, PgHasArrayType};
use sqlx::query::Query;
use sqlx::{Encode, Postgres, Type, query};

use super::state;
use super::statements::{CHECKPOINT, CLAIM, COMPLETE, EXTEND, MIXED, MIXED_WITHOUT_LOCKED, RELEASE};
use crate::store::batch::Op;
use crate::store::{Checkpoint, ClaimRequest, Fence, Outcome, RecordId, Tombstone};

type Call = Query<'static, Postgres, PgArguments>;

/// Longer leases and times are shortened to a century, which fits into the database's clock.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Returns the statement of these verbs, which go [`together`]. `waits`: whether it may wait for
/// rows that others have locked.
pub(super) fn call(ops: &[Op], waits: bool) -> Call {
    match ops {
        [Op::Complete(..)] if !waits => many(ops, waits),
        // Arrays of one value would take longer.
        [op] => one(op),
        ops => many(ops, waits),
    }
}

/// Returns whether there is a statement for both.
pub(super) fn together(first: &Op, other: &Op) -> bool {
    match first {
        Op::Claim(_) | Op::Complete(..) => matches!(other, Op::Claim(_) | Op::Complete(..)),
        _ => discriminant(first) == discriminant(other),
    }
}

fn one(op: &Op) -> Call {
    match op {
        Op::Claim(ClaimRequest { record, fingerprint, token, lease, ttl }) => query(CLAIM)
            .bind(*record.as_bytes())
            .bind(fingerprint.to_bytes())
            .bind(*token.as_bytes())
            .bind(micros(*lease))
            .bind(micros(*ttl)),
        Op::Complete(record, fence, outcome) => complete(query(COMPLETE), *record, *fence, outcome),
        Op::Release(record, fence) => held(query(RELEASE.one), *record, *fence),
        Op::Extend(record, fence, lease) => held(query(EXTEND.one), *record, *fence).bind(micros(*lease)),
        Op::Checkpoint(record, fence, Checkpoint { name, data }) => {
            held(query(CHECKPOINT.one), *record, *fence).bind(name.as_bytes()).bind(&data[..])
        }
    }
}

fn held(call: Call, record: RecordId, fence: Fence) -> Call {
    call.bind(*record.as_bytes()).bind(number(fence))
}

pub(super) fn complete(call: Call, record: RecordId, fence: Fence, outcome: &Outcome) -> Call {
    held(call, record, fence).bind(state(outcome)).bind(response(outcome))
}

fn many(ops: &[Op], waits: bool) -> Call {
    let holders = |sql| query(sql).bind(all(ops, |op| Some(*op.record().as_bytes()))).bind(all(ops, fence));
    match ops.first() {
        Some(Op::Release(..)) => holders(RELEASE.many),
        Some(Op::Extend(..)) => holders(EXTEND.many).bind(all(ops, |op| match op {
            Op::Extend(_, _, lease) => Some(micros(*lease)),
            _ => None,
        })),
        Some(Op::Checkpoint(..)) => holders(CHECKPOINT.many)
            .bind(all(ops, |op| checkpoint(op).map(|it| it.name.as_bytes())))
            .bind(all(ops, |op| checkpoint(op).map(|it| &it.data[..]))),
        Some(Op::Claim(_) | Op::Complete(..)) | None => {
            query(if waits { MIXED } else { MIXED_WITHOUT_LOCKED })
                .bind(all(ops, |op| asked(op).map(|it| *it.record.as_bytes())))
                .bind(all(ops, |op| asked(op).map(|it| it.fingerprint.to_bytes())))
                .bind(all(ops, |op| asked(op).map(|it| *it.token.as_bytes())))
                .bind(all(ops, |op| asked(op).map(|it| micros(it.lease))))
                .bind(all(ops, |op| asked(op).map(|it| micros(it.ttl))))
                .bind(all(ops, |op| outcome(op).map(|_| *op.record().as_bytes())))
                .bind(all(ops, |op| outcome(op).and(fence(op))))
                .bind(all(ops, |op| outcome(op).map(state)))
                .bind(all(ops, |op| outcome(op).map(response)))
        }
    }
}

/// Returns an array of the values that the verbs have.
fn all<'a, T>(
    ops: &'a [Op],
    of: impl Fn(&'a Op) -> Option<T> + 'a,
) -> impl Encode<'a, Postgres> + Type<Postgres>
where
    T: Encode<'a, Postgres> + Type<Postgres> + PgHasArrayType + 'a,
{
    ops.iter().filter_map(of).bind_iter()
}

fn fence(op: &Op) -> Option<i64> {
    match op {
        Op::Claim(_) => None,
        Op::Complete(_, fence, _)
        | Op::Release(_, fence)
        | Op::Extend(_, fence, _)
        | Op::Checkpoint(_, fence, _) => Some(number(*fence)),
    }
}

fn asked(op: &Op) -> Option<&ClaimRequest> {
    if let Op::Claim(asked) = op { Some(asked) } else { None }
}

fn outcome(op: &Op) -> Option<&Outcome> {
    if let Op::Complete(_, _, outcome) = op { Some(outcome) } else { None }
}

fn checkpoint(op: &Op) -> Option<&Checkpoint> {
    if let Op::Checkpoint(_, _, checkpoint) = op { Some(checkpoint) } else { None }
}

pub(super) fn state(outcome: &Outcome) -> i16 {
    match outcome {
        Outcome::Response(_) => state::RESPONSE,
        Outcome::Tombstone(Tombstone::Unreplayable) => state::UNREPLAYABLE,
        Outcome::Tombstone(Tombstone::Unknown) => state::UNKNOWN,
    }
}

pub(super) fn response(outcome: &Outcome) -> Option<&[u8]> {
    match outcome {
        Outcome::Response(response) => Some(response.as_bytes()),
        Outcome::Tombstone(_) => None,
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.min(CENTURY).as_micros()).unwrap_or(i64::MAX)
}

/// A number that does not fit is no fence: 0, because the sequence begins with 1.
fn number(fence: Fence) -> i64 {
    i64::try_from(fence.0).unwrap_or(0)
}
