//! Binds the arguments of verbs: for one statement each, and as the blobs of a batch.

use std::io::Write;
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, query};

use super::state;
use super::statements::{
    CHECKPOINTS, CLAIM_WIDTH, CLAIMS, COMPLETIONS, EXTENSIONS, FENCE_WIDTH, HELD_WIDTH, KINDS, MILLIS_WIDTH,
    OFFSET_WIDTH, RELEASES, TEXTS,
};
use crate::store::batch::Op;
use crate::store::{Checkpoint, ClaimRequest, Fence, Outcome, RecordId};

pub(super) type Call = Query<'static, Sqlite, SqliteArguments>;

/// Longer times are shortened to a century.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A claim, by one of the texts that take its arguments.
pub(super) fn claim(text: &'static str, request: &ClaimRequest) -> Call {
    query(text)
        .bind(request.record.as_bytes().to_vec())
        .bind(request.fingerprint.to_bytes().to_vec())
        .bind(request.token.as_bytes().to_vec())
        .bind(millis(request.lease))
        .bind(millis(request.ttl))
}

pub(super) fn complete(record: RecordId, fence: Fence, outcome: &Outcome) -> Call {
    let response = match outcome {
        Outcome::Response(response) => Some(response.as_bytes().to_vec()),
        Outcome::Tombstone(_) => None,
    };
    held(&TEXTS.complete, record, fence).bind(state::of(outcome)).bind(response)
}

pub(super) fn forget(record: RecordId, fence: Fence) -> Call {
    held(&TEXTS.forget, record, fence)
}

pub(super) fn release(record: RecordId, fence: Fence) -> Call {
    held(&TEXTS.release, record, fence)
}

pub(super) fn extend(record: RecordId, fence: Fence, lease: Duration) -> Call {
    held(&TEXTS.extend, record, fence).bind(millis(lease))
}

pub(super) fn checkpoint(record: RecordId, fence: Fence, checkpoint: &Checkpoint) -> Call {
    let Checkpoint { name, data } = checkpoint;
    held(&TEXTS.checkpoint, record, fence).bind(name.as_bytes().to_vec()).bind(data.to_vec())
}

/// A verb whose text takes a record and a fence first.
pub(super) fn held(text: &'static str, record: RecordId, fence: Fence) -> Call {
    query(text).bind(record.as_bytes().to_vec()).bind(number(fence))
}

/// A batch.
pub(super) struct Packed {
    blobs: [Vec<u8>; KINDS],
    data: Vec<u8>,
    /// For each kind, the places of its verbs in the batch.
    places: [Vec<usize>; KINDS],
}

impl Packed {
    pub(super) fn new(ops: &[Op]) -> Self {
        let mut data = Vec::with_capacity(1 + ops.iter().map(Op::bytes).sum::<usize>());
        // `substr` of an empty blob is NULL.
        data.push(0);
        let mut packed = Self { blobs: Default::default(), data, places: Default::default() };
        for (place, op) in ops.iter().enumerate() {
            let kind = packed.pack(op);
            packed.places[kind].push(place);
        }
        packed
    }

    pub(super) fn call(&mut self) -> Call {
        let kinds = (0..KINDS).filter(|kind| !self.blobs[*kind].is_empty()).map(|kind| 1 << kind);
        let text = query(TEXTS.batch[kinds.sum::<usize>()].as_str());
        let text = self.blobs.iter_mut().fold(text, |text, blob| text.bind(std::mem::take(blob)));
        text.bind(std::mem::take(&mut self.data))
    }

    /// Returns the place in the batch of the verb that begins here in the blob of its kind, counted
    /// from 1.
    pub(super) fn place(&self, kind: usize, begins: usize) -> Option<usize> {
        let width = if kind == CLAIMS { CLAIM_WIDTH } else { HELD_WIDTH };
        self.places.get(kind)?.get(begins.checked_sub(1)? / width).copied()
    }

    /// Returns the kind of the verb.
    fn pack(&mut self, op: &Op) -> usize {
        match op {
            Op::Claim(request) => {
                let blob = &mut self.blobs[CLAIMS];
                blob.extend(request.record.as_bytes());
                blob.extend(request.fingerprint.to_bytes());
                blob.extend(request.token.as_bytes());
                digits(blob, MILLIS_WIDTH, millis(request.lease));
                digits(blob, MILLIS_WIDTH, millis(request.ttl));
                CLAIMS
            }
            Op::Complete(record, fence, outcome) => {
                let response = match outcome {
                    Outcome::Response(response) => response.as_bytes(),
                    Outcome::Tombstone(_) => &[][..],
                };
                self.pack_held(COMPLETIONS, *record, *fence, state::of(outcome).into(), [b"", response])
            }
            Op::Release(record, fence) => self.pack_held(RELEASES, *record, *fence, 0, [b"", b""]),
            Op::Extend(record, fence, lease) => {
                self.pack_held(EXTENSIONS, *record, *fence, millis(*lease), [b"", b""])
            }
            Op::Checkpoint(record, fence, Checkpoint { name, data }) => {
                self.pack_held(CHECKPOINTS, *record, *fence, 0, [name.as_bytes(), data])
            }
        }
    }

    fn pack_held(
        &mut self,
        kind: usize,
        record: RecordId,
        fence: Fence,
        argument: i64,
        carried: [&[u8]; 2],
    ) -> usize {
        let blob = &mut self.blobs[kind];
        blob.extend(record.as_bytes());
        digits(blob, FENCE_WIDTH, number(fence));
        digits(blob, MILLIS_WIDTH, argument);
        for bytes in carried {
            for number in [self.data.len(), bytes.len()] {
                digits(blob, OFFSET_WIDTH, i64::try_from(number).unwrap_or(i64::MAX));
            }
            self.data.extend(bytes);
        }
        kind
    }
}

fn digits(blob: &mut Vec<u8>, width: usize, number: i64) {
    // Writing to a Vec does not fail.
    let _ = write!(blob, "{number:0width$}");
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.min(LONGEST).as_millis()).unwrap_or(i64::MAX)
}

/// A fence that SQLite cannot represent is nobody's, like 0. Fences begin with 1.
fn number(fence: Fence) -> i64 {
    i64::try_from(fence.0).unwrap_or(0)
}
