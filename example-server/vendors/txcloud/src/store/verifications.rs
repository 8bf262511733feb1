//! The table of verifications.

use super::{json, of_list, to_list};
use crate::engines::identity::{Evidence, VerificationStatus};
use crate::free_form::FreeForm;
use crate::user::User;
use crate::verification::{Outcome, Verification};
use platform::api_key::Environment;
use platform::db::columns::{column, named, time};
use platform::db::{Connection, dispatch, row};

/// The owner of an object. Objects made with test keys do not exist for the account's live keys,
/// nor the reverse.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(super) account: &'a str,
    pub(super) environment: Environment,
}

impl<'a> Owner<'a> {
    pub(crate) fn of(user: &'a User) -> Self {
        Self { account: user.account(), environment: user.environment() }
    }
}

/// The columns of a [`Row`].
macro_rules! columns {
    () => {
        "id, account, environment, document_type, country, checks, document, reference, metadata, status, findings, \
         created_at, updated_at"
    };
}

/// Inserts a new verification.
pub(crate) async fn insert(connection: Connection<'_>, verification: &Verification) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(concat!(
        "INSERT INTO txcloud_verifications (", columns!(), ")
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    ))
    .bind(&verification.id)
    .bind(&verification.account)
    .bind(verification.environment.as_str())
    .bind(verification.document_type.as_str())
    .bind(verification.country.as_str())
    .bind(to_list(&verification.checks))
    .bind(&verification.evidence.document)
    .bind(reference(verification))
    .bind(verification.metadata.as_json())
    .bind(verification.status().as_str())
    .bind(findings(verification))
    .bind(verification.created_at.as_millisecond())
    .bind(verification.updated_at.as_millisecond())
    .execute(c).await.map(drop))
}

/// Saves the outcome of a pending verification. Returns `false` if it is no longer pending.
pub(crate) async fn decide(connection: Connection<'_>, verification: &Verification) -> sqlx::Result<bool> {
    let updated = dispatch!(connection, c => sqlx::query(
        "UPDATE txcloud_verifications SET status = $2, findings = $3, reference = $4, updated_at = $5
         WHERE id = $1 AND status = 'pending'",
    )
    .bind(&verification.id)
    .bind(verification.status().as_str())
    .bind(findings(verification))
    .bind(reference(verification))
    .bind(verification.updated_at.as_millisecond())
    .execute(c).await.map(|done| done.rows_affected()))?;
    Ok(updated > 0)
}

/// Returns the engine's reference, which is stored only until the verification is decided.
fn reference(verification: &Verification) -> Option<&str> {
    (verification.outcome == Outcome::Pending).then_some(verification.evidence.reference.as_str())
}

fn findings(verification: &Verification) -> Option<String> {
    match &verification.outcome {
        Outcome::Judged(findings) => {
            Some(serde_json::to_string(findings).expect("findings of plain fields serialise"))
        }
        Outcome::Pending | Outcome::GivenUp => None,
    }
}

/// Loads a verification of this owner. A verification of another owner is treated as missing.
pub(crate) async fn load(
    connection: Connection<'_>,
    owner: Owner<'_>,
    id: &str,
) -> sqlx::Result<Option<Verification>> {
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", columns!(), " FROM txcloud_verifications WHERE id = $1 AND account = $2 AND environment = $3",
    )).bind(id).bind(owner.account).bind(owner.environment.as_str()).fetch_optional(c).await)?;
    row.map(Verification::try_from).transpose()
}

/// Loads a verification of any owner, for the worker.
pub(crate) async fn load_any(connection: Connection<'_>, id: &str) -> sqlx::Result<Option<Verification>> {
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", columns!(), " FROM txcloud_verifications WHERE id = $1",
    )).bind(id).fetch_optional(c).await)?;
    row.map(Verification::try_from).transpose()
}

/// Lists an owner's verifications, newest first, starting after the given one. Ids sort by
/// creation.
pub(crate) async fn list(
    connection: Connection<'_>,
    owner: Owner<'_>,
    after: Option<&str>,
    limit: u32,
) -> sqlx::Result<Vec<Verification>> {
    let rows: Vec<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", columns!(), " FROM txcloud_verifications
         WHERE account = $1 AND environment = $2 AND (CAST($3 AS TEXT) IS NULL OR id < $3)
         ORDER BY id DESC LIMIT $4",
    )).bind(owner.account).bind(owner.environment.as_str()).bind(after).bind(i64::from(limit)).fetch_all(c).await)?;
    rows.into_iter().map(Verification::try_from).collect()
}

pub(crate) async fn count(connection: Connection<'_>, owner: Owner<'_>) -> sqlx::Result<u64> {
    let count: i64 = dispatch!(connection, c => sqlx::query_scalar(
        "SELECT COUNT(*) FROM txcloud_verifications WHERE account = $1 AND environment = $2",
    ).bind(owner.account).bind(owner.environment.as_str()).fetch_one(c).await)?;
    column(count)
}

row! {
    /// A row of the table.
    #[derive(Debug)]
    struct Row {
        id: String,
        account: String,
        environment: String,
        document_type: String,
        country: String,
        checks: String,
        document: String,
        reference: Option<String>,
        metadata: String,
        status: String,
        findings: Option<String>,
        created_at: i64,
        updated_at: i64,
    }
}

impl TryFrom<Row> for Verification {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let outcome = match (named(&row.status)?, row.findings) {
            (VerificationStatus::Pending, _) => Outcome::Pending,
            (_, Some(findings)) => Outcome::Judged(Box::new(json(&findings)?)),
            (_, None) => Outcome::GivenUp,
        };
        Ok(Self {
            id: row.id,
            account: row.account,
            environment: named(&row.environment)?,
            document_type: named(&row.document_type)?,
            country: named(&row.country)?,
            checks: of_list(&row.checks)?,
            evidence: Evidence { document: row.document, reference: row.reference.unwrap_or_default() },
            metadata: FreeForm::kept(row.metadata),
            outcome,
            created_at: time(row.created_at)?,
            updated_at: time(row.updated_at)?,
        })
    }
}
