//! `POST /v1/faxes`, `GET /v1/faxes` and `GET /v1/faxes/{id}`.

use axum::extract::{Path, RawQuery, Request};
use axum::response::Response;
use idempotency_layer::Idempotency;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{Api, Call};
use super::carrier::{Refusal, Sandbox};
use super::delivery;
use super::errors::{Failure, FieldErrors};
use super::events::{self, Event};
use super::fax::{DEFAULT_RETRIES, Fax, FaxId, FaxResource, Status, Submitted};
use super::store::balances::{self, Held};
use super::store::{faxes, settings};
use super::submission::Submission;
use platform::api_key::Environment;
use platform::db::RequestTransaction;
use platform::owner::Owner;
use platform::{clock, failpoint, query};

/// Sends a fax.
///
/// The expected cost is held at once, charged on delivery, and released if the fax fails. The server
/// repeats a failed transmission up to `retries` times.
#[utoipa::path(
    post, path = "/faxes", operation_id = "sendFax", tag = "Faxes",
    request_body(content = inline(Form), content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "The fax is accepted", body = Submitted),
        (status = 402, description = "insufficient_balance"),
        (status = 413, description = "file_too_large"),
        (status = 422, description = "validation_failed"),
        (status = 429, description = "too_many_documents"),
        (status = 503, description = "carrier_unavailable"),
    ),
)]
pub(super) async fn send(
    Call { api, user, context }: Call,
    transaction: RequestTransaction,
    request: Request,
) -> Response {
    match accept(&api, user.owner(), &transaction, request).await {
        Ok(fax) => context.created(&fax.submitted()),
        // Only a success is stored and committed.
        Err(failure) => context.fail(&failure),
    }
}

/// Returns a fax.
#[utoipa::path(
    get, path = "/faxes/{id}", operation_id = "getFax", tag = "Faxes",
    responses((status = 200, description = "The fax", body = FaxResource)),
)]
pub(super) async fn one(call: Call, id: Path<String>) -> Response {
    read(call, id).await
}

/// Returns a fax, at its former path.
#[utoipa::path(
    get, path = "/fax/{id}", operation_id = "getFaxAlias", tag = "Faxes",
    responses((status = 200, description = "The fax", body = FaxResource)),
)]
pub(super) async fn alias(call: Call, id: Path<String>) -> Response {
    read(call, id).await
}

/// Lists faxes, the latest first.
#[utoipa::path(
    get, path = "/faxes", operation_id = "listFaxes", tag = "Faxes",
    params(("page" = Option<u32>, Query, minimum = 1, description = "The number of the page, from 1")),
    responses(
        (status = 200, description = "A page of faxes", body = FaxList),
        (status = 422, description = "validation_failed"),
    ),
)]
pub(super) async fn list(Call { api, user, context }: Call, RawQuery(query): RawQuery) -> Response {
    let listed = async {
        let page = page(query.as_deref())?;
        let mut reader = api.database.read().await?;
        let (faxes, total) = faxes::list(reader.connection(), user.owner(), page).await?;
        let last_page = total.div_ceil(faxes::PAGE.into()).max(1);
        let meta = ListMeta { current_page: page, per_page: faxes::PAGE, last_page, total };
        Ok(FaxList { data: faxes.iter().map(Fax::resource).collect(), meta })
    };
    context.answer(listed.await)
}

async fn accept(
    api: &Api,
    owner: &Owner,
    transaction: &RequestTransaction,
    request: Request,
) -> Result<Fax, Failure> {
    let idempotency_key = request
        .extensions()
        .get::<Idempotency>()
        .map(|idempotency| String::from_utf8_lossy(idempotency.key().as_bytes()).into_owned());
    let submission = Submission::read(request, &api.uploads, &api.callbacks.outbound).await?;
    if owner.environment == Environment::Test {
        tokio::time::sleep(submission.sandbox_delay()?).await;
        check_sandbox_refusal(&submission.to)?;
    }
    let carrier = api.carrier(owner.environment).ok_or_else(Failure::carrier_unavailable)?;
    let retries = match submission.retries {
        Some(retries) => retries,
        None => default_retries(api, owner).await?,
    };
    let held_cents = u64::from(api.config.price_cents) * u64::from(carrier.expected_pages(&submission.to));
    let id = FaxId::random();
    let (kept, document) = submission.document.keep(&api.uploads, &id).await?;
    let now = clock::timestamp();
    let fax = Fax {
        id,
        owner: owner.clone(),
        to: submission.to,
        status: Status::Queued,
        document,
        retries,
        begun: 0,
        attempts: 0,
        verdicts: 0,
        pages: None,
        error_code: None,
        error_message: None,
        webhook_url: submission.webhook_url,
        idempotency_key,
        held_cents,
        charged_cents: 0,
        created_at: now,
        updated_at: now,
        submitted_at: None,
        completed_at: None,
    };
    failpoint::hit("after-claim").await;
    transaction
        .run(async |tx| {
            faxes::insert(tx.connection(), &fax).await?;
            delivery::schedule(api, tx.connection(), &fax).await?;
            events::announce(&api.callbacks, tx.connection(), &fax, Event::Queued, None).await?;
            // Last, because other faxes of this account wait for the balance from here to the commit.
            let terms = api.config.account_terms();
            match balances::hold(tx.connection(), owner, held_cents, fax.document.bytes, terms).await? {
                Held::Yes => Ok(()),
                Held::NotEnoughMoney => Err(Failure::insufficient_balance()),
                Held::TooManyDocuments => Err(Failure::too_many_documents(terms.most_document_bytes)),
            }
        })
        .await?;
    failpoint::hit("before-commit").await;
    kept.leave();
    Ok(fax)
}

/// Rejects the sandbox numbers that stand for a rejection.
fn check_sandbox_refusal(to: &str) -> Result<(), Failure> {
    match Sandbox::refusal(to) {
        None => Ok(()),
        Some(Refusal::InsufficientBalance) => Err(Failure::insufficient_balance()),
        Some(Refusal::InvalidNumber) => {
            Err(FieldErrors::of("to", "The to field must be a valid fax number.").into())
        }
    }
}

/// Returns the number of retries in the fax settings of the account.
pub(super) async fn default_retries(api: &Api, owner: &Owner) -> Result<u8, Failure> {
    let mut reader = api.database.read().await?;
    Ok(settings::retries(reader.connection(), owner).await?.unwrap_or(DEFAULT_RETRIES))
}

async fn read(Call { api, user, context }: Call, Path(id): Path<String>) -> Response {
    let found = async {
        let id = FaxId::parse(&id).ok_or_else(Failure::not_found)?;
        let mut reader = api.database.read().await?;
        let fax = faxes::load(reader.connection(), user.owner(), &id).await?;
        Ok(fax.ok_or_else(Failure::not_found)?.resource())
    };
    context.answer(found.await)
}

/// Reads the number of the page from the query. The default is 1.
fn page(query: Option<&str>) -> Result<u32, Failure> {
    let page = query::last_values(query.unwrap_or_default(), |name| name == "page").pop();
    let Some((_, page)) = page else { return Ok(1) };
    let page = page.parse().ok().filter(|page| *page > 0);
    page.ok_or_else(|| FieldErrors::of("page", "The page must be a whole number from 1 on.").into())
}

/// A page of faxes.
#[derive(Serialize, ToSchema)]
pub(super) struct FaxList {
    data: Vec<FaxResource>,
    meta: ListMeta,
}

/// The position of a page in its list.
#[derive(Serialize, ToSchema)]
struct ListMeta {
    #[schema(example = 1)]
    current_page: u32,
    #[schema(example = 20)]
    per_page: u32,
    #[schema(example = 1)]
    last_page: u64,
    #[schema(example = 1)]
    total: u64,
}

/// The form of a fax.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct Form {
    /// The recipient's number, in E.164 format.
    #[schema(pattern = r"^\+[1-9]\d{1,14}$", example = "+12015550100")]
    to: String,
    /// PDF, DOCX, XLSX, JPG, PNG, TIFF, HTML or TXT, at most 10 MB.
    #[schema(format = Binary)]
    file: String,
    /// The maximum number of retries. The default is in the fax settings of the account.
    #[schema(nullable = false, maximum = 10, example = 3)]
    retries: Option<u8>,
    /// The URL that receives the events of this fax.
    #[schema(nullable = false, max_length = 2048, example = "https://example.com/faxes")]
    webhook_url: Option<String>,
    /// For test keys: the delay in milliseconds before the request is processed.
    #[schema(nullable = false, maximum = 5000, example = 0)]
    sandbox_delay_ms: Option<u16>,
}
