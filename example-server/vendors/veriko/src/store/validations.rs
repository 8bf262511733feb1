//! The table of validations.

use jiff::Timestamp;
use uuid::Uuid;

use super::quota::charge_share;
use super::{ceps, column, images, named, policies, quota, time};
use crate::cep::{Account, Payment};
use crate::client_ref::ClientRef;
use crate::filter::Filter;
use crate::payment::restore;
use crate::query::Search;
use crate::validation::{CycleState, Ending, KeptCep, KeptImage, Ocr, Queue, RetryState, Validation};
use platform::db::{Connection, Inner, dispatch, row};
use platform::webhooks::store::endpoints::any_active_endpoint;

/// The columns of a [`Row`].
macro_rules! columns {
    () => {
        "id, account, request, validation_type, status, banxico_status, error_code, error_message, client_ref, \
         retry_state, retry_policy, retry_attempts, retry_next_at, retry_ended_at, etag_version, processing_time_ms, \
         created_at, completed_at, expires_at, processing_started_at, ocr, image, \
         EXISTS (SELECT 1 FROM ceps WHERE ceps.validation = validations.id) AS has_cep"
    };
}

/// The rows that match a [`Filter`], for a page and for the total.
macro_rules! filtered {
    () => {
        " FROM validations WHERE account = $1 \
         AND (CAST($2 AS TEXT) IS NULL OR $2 LIKE '%,' || status || ',%') \
         AND (CAST($3 AS TEXT) IS NULL OR validation_type = $3) \
         AND (CAST($4 AS BIGINT) IS NULL OR created_at >= $4) \
         AND (CAST($5 AS BIGINT) IS NULL OR created_at < $5) \
         AND (CAST($6 AS TEXT) IS NULL OR searchable LIKE $6 ESCAPE '\\' OR beneficiary_account LIKE $7) \
         AND (CAST($8 AS TEXT) IS NULL OR client_ref = $8) \
         AND (CAST($9 AS BIGINT) IS NULL OR amount_centavos >= $9) \
         AND (CAST($10 AS BIGINT) IS NULL OR amount_centavos <= $10) \
         AND (CAST($11 AS TEXT) IS NULL OR retry_state = $11)"
    };
}

/// Binds the parameters of [`filtered!`].
macro_rules! bind_filter {
    ($query:expr, $account:expr, $filter:expr) => {
        $query
            .bind($account)
            .bind(statuses($filter))
            .bind($filter.kind.map(|kind| kind.as_str()))
            .bind($filter.created_from.map(Timestamp::as_millisecond))
            .bind($filter.created_before.map(Timestamp::as_millisecond))
            .bind($filter.search.as_ref().map(Search::like_pattern))
            .bind($filter.search.as_ref().and_then(Search::digits).map(|digits| format!("%{digits}%")))
            .bind($filter.client_ref.as_ref().map(ClientRef::as_str))
            .bind($filter.min_cents)
            .bind($filter.max_cents)
            .bind($filter.retry_state.map(|state| state.as_str()))
    };
}

/// The statement that inserts a validation.
macro_rules! insert {
    () => {
        "INSERT INTO validations (id, account, request, validation_type, status, banxico_status, error_code, \
             error_message, client_ref, amount_centavos, beneficiary_account, searchable, retry_state, retry_policy, \
             retry_attempts, retry_next_at, retry_ended_at, etag_version, processing_time_ms, created_at, completed_at, \
             expires_at, ocr, image) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
             $22, $23, $24)"
    };
}

/// The flags in the result of an insert.
const HAS_ENDPOINT: i64 = 1;
const IS_CHARGED: i64 = 2;

/// Inserts the validation and its CEP and charges the quota, in one text and so in one round trip.
const INSERT_POSTGRES: &str = concat!(
    "WITH validation AS (",
    insert!(),
    " RETURNING id), \
     cep AS (INSERT INTO ceps (validation, xml) SELECT id, $25 FROM validation WHERE $25 IS NOT NULL), \
     charge AS (",
    charge_share!("$2", "$26", "$27"),
    " RETURNING 1) \
     SELECT CASE WHEN ",
    any_active_endpoint!("$2"),
    " THEN CAST(1 AS BIGINT) ELSE 0 END + 2 * (SELECT COUNT(*) FROM charge)",
);
/// The same on SQLite, as three statements of one text. Each returns its own rows.
const INSERT_SQLITE: &str = concat!(
    insert!(),
    " RETURNING CASE WHEN ",
    any_active_endpoint!("$2"),
    " THEN 1 ELSE 0 END; \
     INSERT INTO ceps (validation, xml) SELECT $1, $25 WHERE $25 IS NOT NULL; ",
    charge_share!("$2", "$26", "$27"),
    " RETURNING 2"
);

/// The result of an insert.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inserted {
    /// Whether the account has an active webhook endpoint.
    pub(crate) has_endpoint: bool,
    /// Whether the quota was charged. If not, this share has nothing left, but another one may have.
    pub(crate) is_charged: bool,
}

/// Inserts a validation with its CEP, and charges the quota of its month.
pub(crate) async fn insert(
    mut connection: Connection<'_>,
    validation: &Validation,
) -> sqlx::Result<Inserted> {
    let Validation { payment, retry_state, .. } = validation;
    let retry = RetryColumns::of(retry_state);
    let processing_time_ms: Option<i64> = validation.processing_time_ms.map(column).transpose()?;
    let is_postgres = connection.is_postgres();
    let flags: Vec<i64> = dispatch!(connection.reborrow(), c => {
        let sql = if is_postgres { INSERT_POSTGRES } else { INSERT_SQLITE };
        sqlx::query_scalar(sql)
    .bind(validation.id.to_string())
    .bind(&validation.account)
    .bind(serde_json::to_string(payment).expect("a payment of plain fields serialises"))
    .bind(validation.kind.as_str())
    .bind(validation.status.as_str())
    .bind(validation.banxico_status.as_str())
    .bind(&validation.error_code)
    .bind(&validation.error_message)
    .bind(validation.client_ref.as_ref().map(ClientRef::as_str))
    .bind(payment.monto().cents())
    .bind(payment.cuenta_beneficiaria().map(Account::digits))
    .bind(searchable(payment, validation.client_ref.as_ref()))
    .bind(retry.state)
    .bind(retry.policy)
    .bind(retry.attempts)
    .bind(retry.next_at)
    .bind(retry.ended_at)
    .bind(i64::from(validation.etag_version))
    .bind(processing_time_ms)
    .bind(validation.created_at.as_millisecond())
    .bind(validation.completed_at.map(Timestamp::as_millisecond))
    .bind(validation.queue.map(|queue| queue.expires_at.as_millisecond()))
    .bind(validation.ocr.as_ref().map(|ocr| serde_json::to_string(ocr).expect("texts and numbers serialise")))
    .bind(validation.image.as_ref().map(KeptImage::as_str))
    .bind(new_cep(validation))
    .bind(quota::month(validation.created_at))
    .bind(quota::first_share())
    .fetch_all(c).await
    })?;
    if let Some(KeptImage::New { sealed, .. }) = &validation.image {
        images::insert(connection.reborrow(), validation.id, sealed, validation.created_at).await?;
    }
    let flags: i64 = flags.into_iter().sum();
    Ok(Inserted { has_endpoint: flags & HAS_ENDPOINT != 0, is_charged: flags & IS_CHARGED != 0 })
}

/// Returns the XML of a CEP that is not stored yet.
fn new_cep(validation: &Validation) -> Option<&[u8]> {
    match &validation.cep {
        KeptCep::New(cep) => Some(&cep.xml()[..]),
        KeptCep::None | KeptCep::Kept => None,
    }
}

/// Loads a validation of this account; those of other accounts are not found. `None` as the account
/// finds the validation of any account.
pub(crate) async fn load(
    connection: Connection<'_>,
    account: Option<&str>,
    id: Uuid,
) -> sqlx::Result<Option<Validation>> {
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", columns!(), " FROM validations WHERE id = $1 AND (CAST($2 AS TEXT) IS NULL OR account = $2)",
    )).bind(id.to_string()).bind(account).fetch_optional(c).await)?;
    row.map(Validation::try_from).transpose()
}

/// Loads a validation and locks it: no other transaction can change it until this one ends.
///
/// A transaction that locks both a validation and its cycle must lock the validation first. In the
/// opposite order, two transactions could deadlock.
pub(crate) async fn lock(
    connection: Connection<'_>,
    account: Option<&str>,
    id: Uuid,
) -> sqlx::Result<Option<Validation>> {
    // SQLite has no `SELECT … FOR UPDATE`. An update that changes nothing locks the row on both
    // databases.
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "UPDATE validations SET etag_version = etag_version
         WHERE id = $1 AND (CAST($2 AS TEXT) IS NULL OR account = $2) RETURNING ", columns!(),
    )).bind(id.to_string()).bind(account).fetch_optional(c).await)?;
    row.map(Validation::try_from).transpose()
}

/// Fails, instead of waiting, if another transaction has [locked](lock) the validation. This cannot
/// happen on SQLite, which has one writer.
pub(crate) async fn refuse_locked(connection: Connection<'_>, id: Uuid) -> sqlx::Result<()> {
    match connection.inner {
        Inner::Sqlite(_) => Ok(()),
        Inner::Postgres(connection) => {
            let lock = sqlx::query("SELECT 1 FROM validations WHERE id = $1 FOR NO KEY UPDATE NOWAIT");
            lock.bind(id.to_string()).execute(connection).await.map(drop)
        }
    }
}

/// Updates a [locked](lock) validation after an answer or a change of its retries, and increments
/// its version.
pub(crate) async fn update(mut connection: Connection<'_>, validation: &mut Validation) -> sqlx::Result<()> {
    let retry = RetryColumns::of(&validation.retry_state);
    let processing_time_ms: Option<i64> = validation.processing_time_ms.map(column).transpose()?;
    let updated: Option<i64> = dispatch!(connection.reborrow(), c => sqlx::query_scalar(
        "UPDATE validations SET etag_version = etag_version + 1, status = $3, banxico_status = $4, error_code = $5,
             error_message = $6, processing_time_ms = $7, completed_at = $8, retry_state = $9, retry_policy = $10,
             retry_attempts = $11, retry_next_at = $12, retry_ended_at = $13, processing_started_at = $14
         WHERE id = $1 AND etag_version = $2 RETURNING etag_version",
    )
    .bind(validation.id.to_string())
    .bind(i64::from(validation.etag_version))
    .bind(validation.status.as_str())
    .bind(validation.banxico_status.as_str())
    .bind(&validation.error_code)
    .bind(&validation.error_message)
    .bind(processing_time_ms)
    .bind(validation.completed_at.map(Timestamp::as_millisecond))
    .bind(retry.state)
    .bind(retry.policy)
    .bind(retry.attempts)
    .bind(retry.next_at)
    .bind(retry.ended_at)
    .bind(validation.queue.and_then(|queue| queue.processing_started_at).map(Timestamp::as_millisecond))
    .fetch_optional(c).await)?;
    // A caller that did not lock the row finds no row here if another transaction changed it
    // meanwhile.
    validation.etag_version = column(updated.ok_or(sqlx::Error::RowNotFound)?)?;
    insert_new_cep(connection, validation).await?;
    if let KeptCep::New(_) = validation.cep {
        validation.cep = KeptCep::Kept;
    }
    Ok(())
}

async fn insert_new_cep(connection: Connection<'_>, validation: &Validation) -> sqlx::Result<()> {
    match &validation.cep {
        KeptCep::New(cep) => ceps::insert(connection, validation.id, cep).await,
        KeptCep::None | KeptCep::Kept => Ok(()),
    }
}

/// Loads a page of the account's validations, latest first, and the total number on all pages.
pub(crate) async fn list(
    mut connection: Connection<'_>,
    account: &str,
    filter: &Filter,
) -> sqlx::Result<(Vec<Validation>, u64)> {
    let total: i64 = dispatch!(connection.reborrow(), c => {
        let count = sqlx::query_scalar(concat!("SELECT COUNT(*)", filtered!()));
        bind_filter!(count, account, filter).fetch_one(c).await
    })?;
    let offset: i64 = column(filter.page.offset())?;
    let rows: Vec<Row> = dispatch!(connection, c => {
        let page = sqlx::query_as(concat!(
            "SELECT ", columns!(), filtered!(), " ORDER BY created_at DESC, id DESC LIMIT $12 OFFSET $13",
        ));
        bind_filter!(page, account, filter).bind(i64::from(filter.page.limit())).bind(offset).fetch_all(c).await
    })?;
    let validations = rows.into_iter().map(Validation::try_from).collect::<sqlx::Result<_>>()?;
    Ok((validations, column(total)?))
}

/// Returns the statuses as a list with commas around each, or `None` if the filter has none.
fn statuses(filter: &Filter) -> Option<String> {
    let texts: Vec<_> = filter.statuses.iter().map(|status| status.as_str()).collect();
    (!texts.is_empty()).then(|| format!(",{},", texts.join(",")))
}

/// Returns the text that a search looks through: one value per line, in lower case. It is lowered
/// here because `LOWER` of the databases handles accents differently or not at all.
fn searchable(payment: &Payment, client_ref: Option<&ClientRef>) -> String {
    let request = serde_json::to_value(payment).expect("a payment of plain fields serialises");
    let mut lines: Vec<String> =
        request.as_object().into_iter().flat_map(|fields| fields.values()).map(text).collect();
    lines.extend(client_ref.map(|client_ref| client_ref.as_str().to_owned()));
    let banks = [payment.sending_bank(), payment.receiving_bank()];
    lines.extend(banks.into_iter().flatten().map(|bank| bank.name.to_owned()));
    lines.join("\n").to_lowercase()
}

fn text(field: &serde_json::Value) -> String {
    field.as_str().map_or_else(|| field.to_string(), ToOwned::to_owned)
}

row! {
    /// A validation as it is stored.
    #[derive(Debug)]
    struct Row {
        id: String,
        account: String,
        request: String,
        validation_type: String,
        status: String,
        banxico_status: String,
        error_code: Option<String>,
        error_message: Option<String>,
        client_ref: Option<String>,
        retry_state: String,
        retry_policy: Option<String>,
        retry_attempts: i64,
        retry_next_at: Option<i64>,
        retry_ended_at: Option<i64>,
        etag_version: i64,
        processing_time_ms: Option<i64>,
        created_at: i64,
        completed_at: Option<i64>,
        expires_at: Option<i64>,
        processing_started_at: Option<i64>,
        ocr: Option<String>,
        image: Option<String>,
        has_cep: bool,
    }
}

impl TryFrom<Row> for Validation {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let retry_state = retry_state(&row)?;
        let processing_started_at = row.processing_started_at.map(time).transpose()?;
        let queue = row.expires_at.map(time).transpose()?;
        Ok(Self {
            id: named(&row.id)?,
            account: row.account,
            kind: named(&row.validation_type)?,
            payment: restore(&row.request).map_err(|_| undecodable("the request of a validation"))?,
            status: named(&row.status)?,
            banxico_status: named(&row.banxico_status)?,
            processing_time_ms: row.processing_time_ms.map(column).transpose()?,
            created_at: time(row.created_at)?,
            completed_at: row.completed_at.map(time).transpose()?,
            client_ref: row.client_ref.as_deref().and_then(ClientRef::parse),
            error_code: row.error_code,
            error_message: row.error_message,
            cep: if row.has_cep { KeptCep::Kept } else { KeptCep::None },
            etag_version: column(row.etag_version)?,
            retry_state,
            ocr: row.ocr.as_deref().map(ocr).transpose()?,
            image: row.image.as_deref().map(image).transpose()?,
            queue: queue.map(|expires_at| Queue { expires_at, processing_started_at }),
        })
    }
}

const NONE: &str = "none";
/// The text for [`RetryState::Intended`].
const INTENDED: &str = "intended";

/// The columns of a retry cycle.
struct RetryColumns {
    state: &'static str,
    policy: Option<String>,
    attempts: i64,
    next_at: Option<i64>,
    ended_at: Option<i64>,
}

impl RetryColumns {
    fn of(state: &RetryState) -> Self {
        let name = state.cycle_state().map_or(NONE, CycleState::as_str);
        match state {
            RetryState::None => {
                Self { state: name, policy: None, attempts: 0, next_at: None, ended_at: None }
            }
            RetryState::Intended { policy } => Self {
                state: INTENDED,
                policy: Some(policies::to_text(policy)),
                attempts: 0,
                next_at: None,
                ended_at: None,
            },
            RetryState::Active { policy, attempts_completed, next_attempt_at } => Self {
                state: name,
                policy: Some(policies::to_text(policy)),
                attempts: i64::from(*attempts_completed),
                next_at: Some(next_attempt_at.as_millisecond()),
                ended_at: None,
            },
            RetryState::Ended { policy, attempts_completed, ending: _, at } => Self {
                state: name,
                policy: Some(policies::to_text(policy)),
                attempts: i64::from(*attempts_completed),
                next_at: None,
                ended_at: Some(at.as_millisecond()),
            },
        }
    }
}

fn retry_state(row: &Row) -> sqlx::Result<RetryState> {
    if row.retry_state == NONE {
        return Ok(RetryState::None);
    }
    let policy = row.retry_policy.as_deref().ok_or_else(|| undecodable("a retry cycle without a policy"))?;
    let policy = policies::from_text(policy)?;
    if row.retry_state == INTENDED {
        return Ok(RetryState::Intended { policy });
    }
    let attempts_completed = column(row.retry_attempts)?;
    let at =
        |column: Option<i64>| column.map_or_else(|| Err(undecodable("a retry cycle without a time")), time);
    let ending = match named(&row.retry_state)? {
        CycleState::Pending => {
            return Ok(RetryState::Active {
                policy,
                attempts_completed,
                next_attempt_at: at(row.retry_next_at)?,
            });
        }
        CycleState::Resolved => Ending::Resolved,
        CycleState::Exhausted => Ending::Exhausted,
        CycleState::Cancelled => Ending::Cancelled,
    };
    Ok(RetryState::Ended { policy, attempts_completed, ending, at: at(row.retry_ended_at)? })
}

fn ocr(text: &str) -> sqlx::Result<Ocr> {
    serde_json::from_str(text).map_err(|_| undecodable("the text of a receipt"))
}

fn image(text: &str) -> sqlx::Result<KeptImage> {
    KeptImage::parse(text).ok_or_else(|| undecodable("the format of a picture"))
}

fn undecodable(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}
