//! The table of faxes.

use jiff::Timestamp;

use super::{column, named, time};
use crate::fax::{Document, Fax, FaxId};
use platform::db::{Connection, dispatch, row};
use platform::owner::Owner;

/// The columns of a [`Row`].
macro_rules! columns {
    () => {
        "id, account, environment, recipient, status, media_type, document_bytes, document_sha256, retries, begun, \
         attempts, verdicts, pages, error_code, error_message, webhook_url, idempotency_key, held_cents, charged_cents, \
         created_at, updated_at, submitted_at, completed_at, document_charset"
    };
}

/// The number of faxes on a page.
pub(crate) const PAGE: u32 = 20;

pub(crate) async fn insert(connection: Connection<'_>, fax: &Fax) -> sqlx::Result<()> {
    let (bytes, held): (i64, i64) = (column(fax.document.bytes)?, column(fax.held_cents)?);
    dispatch!(connection, c => sqlx::query(concat!(
        "INSERT INTO mintfax_faxes (", columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, 0, NULL, NULL,
             NULL, $10, $11, $12, 0, $13, $13, NULL, NULL, $14)",
    ))
    .bind(fax.id.as_str())
    .bind(&fax.owner.account)
    .bind(fax.owner.environment.as_str())
    .bind(&fax.to)
    .bind(fax.status.as_str())
    .bind(fax.document.media_type.as_str())
    .bind(bytes)
    .bind(&fax.document.sha256)
    .bind(i64::from(fax.retries))
    .bind(&fax.webhook_url)
    .bind(&fax.idempotency_key)
    .bind(held)
    .bind(fax.created_at.as_millisecond())
    .bind(&fax.document.charset)
    .execute(c).await.map(drop))
}

/// Loads a fax of this owner. A fax of another owner is treated as missing.
pub(crate) async fn load(connection: Connection<'_>, owner: &Owner, id: &FaxId) -> sqlx::Result<Option<Fax>> {
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", columns!(), " FROM mintfax_faxes WHERE id = $1 AND account = $2 AND environment = $3",
    )).bind(id.as_str()).bind(&owner.account).bind(owner.environment.as_str()).fetch_optional(c).await)?;
    row.map(Fax::try_from).transpose()
}

/// Lists a page of the owner's faxes, newest first. Also returns the number of faxes on all pages.
pub(crate) async fn list(
    mut connection: Connection<'_>,
    owner: &Owner,
    page: u32,
) -> sqlx::Result<(Vec<Fax>, u64)> {
    let total: i64 = dispatch!(connection.reborrow(), c => sqlx::query_scalar(
        "SELECT COUNT(*) FROM mintfax_faxes WHERE account = $1 AND environment = $2",
    ).bind(&owner.account).bind(owner.environment.as_str()).fetch_one(c).await)?;
    let offset = i64::from(page.saturating_sub(1)) * i64::from(PAGE);
    let rows: Vec<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", columns!(), " FROM mintfax_faxes WHERE account = $1 AND environment = $2
         ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4",
    ))
    .bind(&owner.account).bind(owner.environment.as_str()).bind(i64::from(PAGE)).bind(offset)
    .fetch_all(c).await)?;
    Ok((rows.into_iter().map(Fax::try_from).collect::<sqlx::Result<_>>()?, column(total)?))
}

/// Loads a fax of any owner, and locks its row until the transaction ends.
pub(crate) async fn lock(connection: Connection<'_>, id: &FaxId) -> sqlx::Result<Option<Fax>> {
    // `SELECT … FOR UPDATE` does not exist in SQLite; an update without a change locks in both
    // databases.
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "UPDATE mintfax_faxes SET status = status WHERE id = $1 RETURNING ", columns!(),
    )).bind(id.as_str()).fetch_optional(c).await)?;
    row.map(Fax::try_from).transpose()
}

/// Saves a [locked](lock) fax.
pub(crate) async fn update(connection: Connection<'_>, fax: &Fax) -> sqlx::Result<()> {
    let charged: i64 = column(fax.charged_cents)?;
    dispatch!(connection, c => sqlx::query(
        "UPDATE mintfax_faxes SET status = $2, begun = $3, attempts = $4, verdicts = $5, pages = $6, error_code = $7,
             error_message = $8, charged_cents = $9, updated_at = $10, submitted_at = $11, completed_at = $12
         WHERE id = $1",
    )
    .bind(fax.id.as_str())
    .bind(fax.status.as_str())
    .bind(i64::from(fax.begun))
    .bind(i64::from(fax.attempts))
    .bind(i64::from(fax.verdicts))
    .bind(fax.pages.map(i64::from))
    .bind(&fax.error_code)
    .bind(&fax.error_message)
    .bind(charged)
    .bind(fax.updated_at.as_millisecond())
    .bind(fax.submitted_at.map(Timestamp::as_millisecond))
    .bind(fax.completed_at.map(Timestamp::as_millisecond))
    .execute(c).await.map(drop))
}

/// Changes the status from submitted to in progress. Returns whether it changed.
pub(crate) async fn show_in_progress(
    connection: Connection<'_>,
    id: &FaxId,
    now: Timestamp,
) -> sqlx::Result<bool> {
    let changed = dispatch!(connection, c => sqlx::query(
        "UPDATE mintfax_faxes SET status = 'in_progress', updated_at = $2 WHERE id = $1 AND status = 'submitted'",
    ).bind(id.as_str()).bind(now.as_millisecond()).execute(c).await.map(|done| done.rows_affected()))?;
    Ok(changed > 0)
}

/// Returns whether the fax exists and has not ended.
pub(crate) async fn is_pending(connection: Connection<'_>, id: &FaxId) -> sqlx::Result<bool> {
    dispatch!(connection, c => sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM mintfax_faxes WHERE id = $1 AND status NOT IN ('delivered', 'failed'))",
    ).bind(id.as_str()).fetch_one(c).await)
}

row! {
    /// A row of the table.
    #[derive(Debug)]
    struct Row {
        id: String,
        account: String,
        environment: String,
        recipient: String,
        status: String,
        media_type: String,
        document_bytes: i64,
        document_sha256: String,
        retries: i64,
        begun: i64,
        attempts: i64,
        verdicts: i64,
        pages: Option<i64>,
        error_code: Option<String>,
        error_message: Option<String>,
        webhook_url: Option<String>,
        idempotency_key: Option<String>,
        held_cents: i64,
        charged_cents: i64,
        created_at: i64,
        updated_at: i64,
        submitted_at: Option<i64>,
        completed_at: Option<i64>,
        document_charset: Option<String>,
    }
}

impl TryFrom<Row> for Fax {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let document = Document {
            media_type: named(&row.media_type)?,
            bytes: column(row.document_bytes)?,
            sha256: row.document_sha256,
            charset: row.document_charset,
        };
        Ok(Self {
            id: FaxId::parse(&row.id).ok_or_else(|| sqlx::Error::Decode("not a fax id".into()))?,
            owner: Owner { account: row.account, environment: named(&row.environment)? },
            to: row.recipient,
            status: named(&row.status)?,
            document,
            retries: column(row.retries)?,
            begun: column(row.begun)?,
            attempts: column(row.attempts)?,
            verdicts: column(row.verdicts)?,
            pages: row.pages.map(column).transpose()?,
            error_code: row.error_code,
            error_message: row.error_message,
            webhook_url: row.webhook_url,
            idempotency_key: row.idempotency_key,
            held_cents: column(row.held_cents)?,
            charged_cents: column(row.charged_cents)?,
            created_at: time(row.created_at)?,
            updated_at: time(row.updated_at)?,
            submitted_at: row.submitted_at.map(time).transpose()?,
            completed_at: row.completed_at.map(time).transpose()?,
        })
    }
}
