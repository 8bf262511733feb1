//! The SQL.
//!
//! A single verb is a single statement, which commits by itself. A batch is one text with one
//! commit. There is a text for each combination of kinds of verbs. The connection has a thread of
//! its own, and each text that is sent and each row that comes back costs a change of thread. So
//! the verbs are rows of fixed width in a blob, which SQLite cuts up, and most answers come back as
//! one row with a list. (Measured in memory, for each of 64 claims: 11 µs; 22 with a row for each
//! answer; 50 as separate statements.)
//!
//! `CROSS JOIN` fixes the order of every join. The planner believes that a table is small if it was
//! analysed while it was small, and would scan it for each batch. So there is no `UPDATE … FROM`,
//! whose order the planner chooses, and no `IN`.

use std::sync::LazyLock;

use super::state::{RELEASED, RESPONSE, RUNNING, UNKNOWN};

/// All texts, built once.
pub(super) struct Texts {
    /// Grants a claim. `$1` record, `$2` fingerprint, `$3` token, `$4` lease, `$5` time to live. No
    /// row: not granted.
    pub(super) take: String,
    /// Answers a claim that was not granted; same arguments. No row: it could be granted by now.
    pub(super) look: String,
    /// Answers a claim that would not be granted, without trying; same arguments. No row: it would
    /// be granted.
    pub(super) peek: String,
    /// `$1` record, `$2` fence, here and in all that follow; `$3` state, `$4` response.
    pub(super) complete: String,
    /// Finds an outcome under this fence.
    pub(super) completed: String,
    /// The same, after the end of every transaction that is about to write one, because it takes
    /// the write lock.
    pub(super) settled: String,
    /// Deletes the record. No row: it has a checkpoint to keep, or the fence is stale.
    pub(super) forget: String,
    /// Keeps the record for its checkpoint.
    pub(super) release: String,
    /// `$3` lease.
    pub(super) extend: String,
    /// `$3` name, `$4` data.
    pub(super) checkpoint: String,
    /// `$1` how many.
    pub(super) purge: String,
    /// By the kinds of verbs in it, one bit each. `$1` to `$5`: the verbs of each kind; `$6`: what
    /// they carry.
    pub(super) batch: Vec<String>,
}

pub(super) static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
    let parameters = ["$1", "$2", "$3", "$4", "$5"];
    let held = format!("record = $1 AND fence = $2 AND state = {RUNNING}");
    let update = |set: &str| format!("UPDATE idempotency_records SET {set} WHERE {held}");
    let completed = format!(
        "SELECT 1 FROM idempotency_records
WHERE record = $1 AND fence = $2 AND state BETWEEN {RESPONSE} AND {UNKNOWN}"
    );
    Texts {
        take: take("", parameters, "")
            + &format!("\nRETURNING {RUN}, 1, fence, attempt, orphan, checkpoint_name, checkpoint_data"),
        peek: look("", "1", parameters, "idempotency_records AS found", "found.record = $1")
            + &format!(" AND (found.expires_at > {NOW} OR found.lease_ends > {NOW})"),
        look: look("", "1", parameters, "idempotency_records AS found", "found.record = $1"),
        complete: update(&complete("$3", "$4")),
        settled: format!("BEGIN IMMEDIATE;\n{completed};\nCOMMIT"),
        completed,
        forget: format!("DELETE FROM idempotency_records WHERE {held} AND checkpoint_name IS NULL"),
        release: update(&release()),
        extend: update(&format!("lease_ends = {NOW} + $3")),
        checkpoint: update("checkpoint_name = $3, checkpoint_data = $4"),
        purge: purge(),
        batch: (0..1 << KINDS).map(batch).collect(),
    }
});

/// The kinds of verbs, in their order in a batch. In the first column of an answer, a kind marks
/// the list of its verbs that took effect.
pub(super) const KINDS: usize = 5;
pub(super) const CLAIMS: usize = 0;
pub(super) const COMPLETIONS: usize = 1;
pub(super) const RELEASES: usize = 2;
pub(super) const EXTENSIONS: usize = 3;
pub(super) const CHECKPOINTS: usize = 4;
/// A row about one claim that was granted.
pub(super) const RUN: usize = 5;
/// A row about one claim that was not granted.
pub(super) const FOUND: usize = 6;

/// The width of a claim in its blob, and of the numbers in it.
pub(super) const CLAIM_WIDTH: usize = 32 + 33 + 16 + 2 * MILLIS_WIDTH;
/// The width of any other verb in its blob.
pub(super) const HELD_WIDTH: usize = 32 + FENCE_WIDTH + MILLIS_WIDTH + 4 * OFFSET_WIDTH;
/// Digits of a time in milliseconds: three centuries.
pub(super) const MILLIS_WIDTH: usize = 13;
/// Digits of a fence.
pub(super) const FENCE_WIDTH: usize = 19;
/// Digits of an offset in the data of the verbs. SQLite takes no blob whose length has ten digits.
pub(super) const OFFSET_WIDTH: usize = 10;

/// The store's clock. SQLite evaluates it once in a statement.
pub(super) const NOW: &str = "(SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER))";

/// [`Fingerprint::matches`](crate::Fingerprint::matches): of different schemes, of no scheme, or
/// equal.
fn matches(kept: &str, asked: &str) -> String {
    format!(
        "(substr({kept}, 1, 1) <> substr({asked}, 1, 1) OR substr({kept}, 1, 1) = x'00' OR {kept} = {asked})"
    )
}

/// Grants claims of records that are new, forgotten, held by the same token, or held by nobody.
fn take(with: &str, [record, fingerprint, token, lease, ttl]: [&str; 5], from: &str) -> String {
    let forgotten = format!("(expires_at <= {NOW} AND lease_ends <= {NOW})");
    let own = format!("(state = {RUNNING} AND token = excluded.token)");
    let matches = matches("fingerprint", "excluded.fingerprint");
    let anew = |column: &str, new: &str, kept: &str| {
        format!("{column} = CASE WHEN {forgotten} THEN {new} ELSE {kept} END")
    };
    let set = [
        anew("fence", "fence + 1", &format!("fence + NOT {own}")),
        anew("expires_at", "excluded.expires_at", "expires_at"),
        "lease_ends = excluded.lease_ends".to_owned(),
        anew("attempt", "1", &format!("attempt + NOT {own}")),
        format!("state = {RUNNING}"),
        anew("orphan", "0", &format!("CASE WHEN {own} THEN orphan ELSE state = {RUNNING} END")),
        "token = excluded.token".to_owned(),
        anew("fingerprint", "excluded.fingerprint", "fingerprint"),
        anew("checkpoint_name", "NULL", "checkpoint_name"),
        anew("checkpoint_data", "NULL", "checkpoint_data"),
        anew("response", "NULL", "response"),
    ]
    .join(",\n    ");
    format!(
        "{with}INSERT INTO idempotency_records
    (record, fence, expires_at, lease_ends, attempt, state, orphan, token, fingerprint)
SELECT {record}, 1 + (SELECT floor FROM idempotency_fences), {NOW} + {ttl}, {NOW} + {lease},
    1, {RUNNING}, 0, {token}, {fingerprint}
{from} WHERE true
ON CONFLICT (record) DO UPDATE SET
    {set}
WHERE {forgotten} OR {matches} AND ({own} OR state IN ({RUNNING}, {RELEASED}) AND lease_ends <= {NOW})"
    )
}

/// Reads the records that are answered one by one: claims that were not granted, and those with a
/// checkpoint.
fn look(with: &str, place: &str, asked: [&str; 5], from: &str, on: &str) -> String {
    let [_, fingerprint, token, ..] = asked;
    let matches = matches("found.fingerprint", fingerprint);
    let given = given(&matches, token);
    format!(
        "{with}SELECT CASE WHEN {given} THEN {RUN} ELSE {FOUND} END, {place},
    found.fence, found.attempt, found.orphan, found.checkpoint_name, found.checkpoint_data,
    {matches}, found.state, found.lease_ends - {NOW}, found.expires_at - {NOW}, found.token,
    CASE WHEN {matches} THEN found.response END
FROM {from} WHERE {on} AND (NOT {given} OR found.checkpoint_name IS NOT NULL)"
    )
}

/// Whether `take` has granted the claim.
fn given(matches: &str, token: &str) -> String {
    format!("(found.state = {RUNNING} AND found.token = {token} AND {matches})")
}

fn complete(state: &str, response: &str) -> String {
    format!(
        "state = {state}, response = {response}, lease_ends = 0, checkpoint_name = NULL, checkpoint_data = NULL"
    )
}

fn release() -> String {
    format!("state = {RELEASED}, lease_ends = 0")
}

/// Deletes the first `$1` expired records. It selects them by the columns of the index. With a list
/// (`id IN …`), the planner would scan a table that it believes to be small.
fn purge() -> String {
    let expired = format!("expires_at <= {NOW} AND lease_ends <= {NOW}");
    format!(
        "DELETE FROM idempotency_records INDEXED BY idempotency_records_expires_at
WHERE {expired} AND (expires_at, id) <= (
    SELECT expires_at, id FROM (
        SELECT expires_at, id FROM idempotency_records INDEXED BY idempotency_records_expires_at
        WHERE {expired} ORDER BY expires_at, id LIMIT $1
    ) ORDER BY expires_at DESC, id DESC LIMIT 1
)"
    )
}

fn batch(kinds: usize) -> String {
    let verbs = (0..KINDS).filter(|kind| kinds & 1 << kind != 0).flat_map(many);
    let mut text = "BEGIN IMMEDIATE;\n".to_owned();
    text.extend(verbs.map(|statement| statement + ";\n"));
    text + "COMMIT"
}

/// The statements for all verbs of one kind.
fn many(kind: usize) -> Vec<String> {
    let join = |place: &str| {
        format!(
            "input CROSS JOIN idempotency_records AS found INDEXED BY idempotency_records_record
    ON found.record = input.record {place}"
        )
    };
    let list = |items: &str, from: &str| format!("SELECT {kind}, group_concat({items}, ',') FROM {from}");
    let held = |states: &str| {
        let from = join(&format!("AND found.fence = input.fence AND found.state {states}"));
        input_of_held(kind) + &list("input.i", &from)
    };
    let (running, completed) = (format!("= {RUNNING}"), format!("BETWEEN {RESPONSE} AND {UNKNOWN}"));
    match kind {
        CLAIMS => {
            let columns = ["record", "fingerprint", "token", "lease", "ttl"].map(|it| format!("input.{it}"));
            let columns = columns.each_ref().map(String::as_str);
            let given = given(&matches("found.fingerprint", "input.fingerprint"), "input.token");
            let items = "input.i || ' ' || found.fence || ' ' || found.attempt || ' ' || found.orphan";
            vec![
                take(&input_of_claims(), columns, "FROM input"),
                input_of_claims()
                    + &list(items, &join(&format!("AND {given} AND found.checkpoint_name IS NULL"))),
                look(&input_of_claims(), "input.i", columns, &join(""), "true"),
            ]
        }
        COMPLETIONS => {
            let response = format!("CASE input.number WHEN {RESPONSE} THEN input.data END");
            let new = ["input.number", "0", "NULL", "NULL", &response];
            let set = complete("excluded.state", "excluded.response");
            // Read afterwards: completed by this statement or by an earlier one.
            vec![write(kind, new, &set), held(&completed)]
        }
        RELEASES => {
            let new = ["old.state", "0", "NULL", "NULL", "NULL"];
            // Those that are left by then have a checkpoint.
            vec![held(&running), forget(kind), write(kind, new, &release())]
        }
        EXTENSIONS => {
            let new = ["old.state", &format!("{NOW} + input.number"), "NULL", "NULL", "NULL"];
            vec![held(&running), write(kind, new, "lease_ends = excluded.lease_ends")]
        }
        _ => {
            let new = ["old.state", "0", "input.name", "input.data", "NULL"];
            let set =
                "checkpoint_name = excluded.checkpoint_name, checkpoint_data = excluded.checkpoint_data";
            vec![held(&running), write(kind, new, set)]
        }
    }
}

/// Writes to the records whose fence is shown. The update is written as an insertion of what is
/// there already.
fn write(kind: usize, new: [&str; 5], set: &str) -> String {
    let (input, new) = (input_of_held(kind), new.join(", "));
    format!(
        "{input}INSERT INTO idempotency_records
    (id, record, fence, expires_at, attempt, orphan, token, fingerprint,
    state, lease_ends, checkpoint_name, checkpoint_data, response)
SELECT old.id, old.record, old.fence, old.expires_at, old.attempt, old.orphan, old.token, old.fingerprint,
    {new}
FROM input CROSS JOIN idempotency_records AS old INDEXED BY idempotency_records_record
    ON old.record = input.record AND old.fence = input.fence AND old.state = {RUNNING}
WHERE true
ON CONFLICT (id) DO UPDATE SET {set}"
    )
}

/// Deletes the records whose fence is shown and that have no checkpoint.
fn forget(kind: usize) -> String {
    let input = input_of_held(kind);
    format!(
        "{input}DELETE FROM idempotency_records INDEXED BY idempotency_records_record
WHERE (record, fence) IN (SELECT record, fence FROM input)
    AND state = {RUNNING} AND checkpoint_name IS NULL"
    )
}

/// The claims as a table.
fn input_of_claims() -> String {
    let [record, fingerprint, token] = [(0, 32), (32, 33), (65, 16)].map(|(at, width)| slice(1, at, width));
    let [lease, ttl] = [81, 81 + MILLIS_WIDTH].map(|at| number(1, at, MILLIS_WIDTH));
    let cut = cut(1, CLAIM_WIDTH);
    format!(
        "{cut}, input(i, record, fingerprint, token, lease, ttl) AS (
    SELECT i, {record}, {fingerprint}, {token}, {lease}, {ttl} FROM at
)
"
    )
}

/// The verbs of one other kind as a table: `number` is a state or a lease.
fn input_of_held(kind: usize) -> String {
    let blob = kind + 1;
    let (record, fence) = (slice(blob, 0, 32), number(blob, 32, FENCE_WIDTH));
    let after = 32 + FENCE_WIDTH;
    let millis = number(blob, after, MILLIS_WIDTH);
    let [name_at, name_len, data_at, data_len] =
        [0, 1, 2, 3].map(|nth| number(blob, after + MILLIS_WIDTH + nth * OFFSET_WIDTH, OFFSET_WIDTH));
    let cut = cut(blob, HELD_WIDTH);
    format!(
        "{cut}, input(i, record, fence, number, name, data) AS (
    SELECT i, {record}, {fence}, {millis},
        substr($6, 1 + {name_at}, {name_len}), substr($6, 1 + {data_at}, {data_len})
    FROM at
)
"
    )
}

/// Where the rows of a blob begin, from 1.
fn cut(blob: usize, width: usize) -> String {
    format!(
        "WITH RECURSIVE at(i) AS (
    SELECT 1 WHERE length(${blob}) > 0
    UNION ALL SELECT i + {width} FROM at WHERE i + {width} <= length(${blob})
)"
    )
}

fn slice(blob: usize, at: usize, width: usize) -> String {
    format!("substr(${blob}, i + {at}, {width})")
}

fn number(blob: usize, at: usize, width: usize) -> String {
    format!("CAST({} AS INTEGER)", slice(blob, at, width))
}
