//! `POST /identity/verify`, and the operations that read verifications.

pub(super) mod judgement;
pub(super) mod request;

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use self::judgement::{judge, seen_before};
use self::request::{Mode, Request, VerificationRequest};
use super::api::{Api, Call, respond};
use super::background;
use super::engines::EngineError;
use super::errors::Failure;
use super::events;
use super::ids;
use super::reading::Raw;
use super::store::documents;
use super::store::verifications::{self, Owner};
use super::user::User;
use super::verification::{Outcome, Verification, VerificationBody};
use platform::bodies::BodyPermit;
use platform::db::RequestTransaction;
use platform::{clock, failpoint, query};

/// Verifies an identity document.
///
/// With the mode `sync`, the response is the judgement. With `async`, the response is an immediate
/// 202 with the status `pending`; the verification is judged in the background, and can be read
/// with the operations below.
#[utoipa::path(
    post, path = "/identity/verify", operation_id = "createVerification", tag = "Identity", request_body = VerificationRequest,
    responses(
        (status = 200, description = "The judgement", body = VerificationBody),
        (status = 202, description = "The verification is judged in the background", body = VerificationBody),
        (status = 400, description = "missing_parameter invalid_parameter invalid_document unsupported_country \
            unsupported_document"),
    ),
)]
pub(super) async fn verify(
    Call { api, user, context }: Call,
    transaction: RequestTransaction,
    _place: BodyPermit,
    Raw(body): Raw,
) -> Response {
    let verification = async {
        let mut request = Request::read(&body, &api.callbacks.outbound)?;
        let (mode, webhook_url) = (request.mode, request.webhook_url.take());
        // The engine is called before any connection or lock is taken.
        let mut verification = receive(&api, &user, request).await?;
        match mode {
            Mode::Sync => {
                judge_and_save(&api, &transaction, &mut verification, webhook_url.as_deref()).await?;
            }
            Mode::Async => background::accept(&api, &transaction, &verification, webhook_url).await?,
        }
        failpoint::hit("before-commit").await;
        Ok((mode, verification))
    };
    match verification.await {
        Ok((mode, verification)) => {
            let status = if mode == Mode::Async { StatusCode::ACCEPTED } else { StatusCode::OK };
            context.answer(status, &verification.to_response())
        }
        Err(failure) => context.fail(&failure),
    }
}

/// Passes the images to the engine, and returns the pending verification.
async fn receive(api: &Api, user: &User, request: Request) -> Result<Verification, EngineError> {
    let evidence = api.engines.identity.receive(user.environment(), &request.images).await?;
    let now = clock::timestamp();
    Ok(Verification {
        id: ids::new(Verification::PREFIX),
        account: user.account().to_owned(),
        environment: user.environment(),
        document_type: request.document_type,
        country: request.country,
        checks: request.checks,
        evidence,
        metadata: request.metadata,
        outcome: Outcome::Pending,
        created_at: now,
        updated_at: now,
    })
}

/// Judges a verification and saves it.
///
/// Only the transaction that claims the document knows for certain whether the document is a
/// duplicate, but the engine must be called before that transaction. So when a document is verified
/// twice at the same time, the later verification is judged again.
async fn judge_and_save(
    api: &Api,
    transaction: &RequestTransaction,
    verification: &mut Verification,
    webhook_url: Option<&str>,
) -> Result<(), Failure> {
    let mut seen_before = seen_before(api, verification).await?;
    loop {
        let findings = judge(api, verification, seen_before).await?;
        verification.outcome = Outcome::Judged(Box::new(findings));
        let saved = transaction.run(async |tx| {
            let is_first = documents::claim(tx.connection(), verification).await?;
            if !is_first && !seen_before && verification.asks_for_duplicates() {
                // No transaction stays open while the engine judges again.
                return Err(SaveError::SeenBefore);
            }
            verifications::insert(tx.connection(), verification).await?;
            if let Some(url) = webhook_url {
                events::announce(&api.callbacks, tx.connection(), verification, url).await?;
            }
            Ok(())
        });
        match saved.await {
            Ok(()) => return Ok(()),
            Err(SaveError::SeenBefore) => seen_before = true,
            Err(SaveError::Failed(failure)) => return Err(failure),
        }
    }
}

/// Why a judgement was not saved.
enum SaveError {
    /// The document is a duplicate, which the engine did not know.
    SeenBefore,
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for SaveError {
    fn from(error: F) -> Self {
        Self::Failed(error.into())
    }
}

/// Returns a verification.
#[utoipa::path(
    get, path = "/identity/verify/{id}", operation_id = "getVerification", tag = "Identity",
    params(("id" = String, Path, description = "The id of the verification.")),
    responses((status = 200, description = "The verification", body = VerificationBody)),
)]
pub(super) async fn one(Call { api, user, context }: Call, Path(id): Path<String>) -> Response {
    match find(&api, &user, &id).await {
        Ok(verification) => context.answer(StatusCode::OK, &verification.to_response()),
        Err(failure) => context.fail(&failure),
    }
}

/// Returns a verification, at the path of the vendor's reference.
#[utoipa::path(
    get, path = "/identity/verifications/{id}", operation_id = "getListedVerification", tag = "Identity",
    params(("id" = String, Path, description = "The id of the verification.")),
    responses((status = 200, description = "The verification", body = VerificationBody)),
)]
pub(super) async fn one_listed(call: Call, id: Path<String>) -> Response {
    one(call, id).await
}

async fn find(api: &Api, user: &User, id: &str) -> Result<Verification, Failure> {
    if !ids::is_one(Verification::PREFIX, id) {
        return Err(Failure::not_found());
    }
    let mut reader = api.database.read().await?;
    verifications::load(reader.connection(), Owner::of(user), id).await?.ok_or_else(Failure::not_found)
}

/// Lists verifications, newest first.
#[utoipa::path(
    get, path = "/identity/verifications", operation_id = "listVerifications", tag = "Identity",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "The page size, 20 by default"),
        ("starting_after" = Option<String>, Query, description = "The id after which the page starts"),
    ),
    responses(
        (status = 200, description = "A page of verifications", body = VerificationList),
        (status = 400, description = "invalid_parameter"),
    ),
)]
pub(super) async fn list(Call { api, user, context }: Call, RawQuery(query): RawQuery) -> Response {
    let page = async {
        let page = Page::read(query.as_deref().unwrap_or_default())?;
        let mut reader = api.database.read().await?;
        let owner = Owner::of(&user);
        let after = page.starting_after.as_deref();
        // One more than requested, to find out whether there is another page.
        let mut found = verifications::list(reader.connection(), owner, after, page.limit + 1).await?;
        let total_count = verifications::count(reader.connection(), owner).await?;
        let has_more = found.len() > usize::try_from(page.limit).unwrap_or(usize::MAX);
        if has_more {
            found.pop();
        }
        Ok((found, has_more, total_count))
    };
    match page.await {
        Ok((found, has_more, total_count)) => {
            let data: Vec<_> = found.iter().map(Verification::to_response).collect();
            let next_cursor = found.last().filter(|_| has_more).map(|last| last.id.as_str());
            let list = VerificationList { object: "list", data, has_more, next_cursor, total_count };
            respond(&context, Ok((StatusCode::OK, list)))
        }
        Err(failure) => context.fail(&failure),
    }
}

/// The query of a list.
struct Page {
    limit: u32,
    starting_after: Option<String>,
}

impl Page {
    const DEFAULT_LIMIT: u32 = 20;
    const MAX_LIMIT: u32 = 100;

    /// Reads the page from a query.
    fn read(query: &str) -> Result<Self, Failure> {
        let mut page = Self { limit: Self::DEFAULT_LIMIT, starting_after: None };
        for (name, value) in query::last_values(query, |name| matches!(name, "limit" | "starting_after")) {
            let refused = |problem: String| Failure::invalid_parameter(&name, problem);
            if name == "limit" {
                let limit = value.parse().ok().filter(|limit| (1..=Self::MAX_LIMIT).contains(limit));
                page.limit = limit
                    .ok_or_else(|| refused(format!("must be an integer from 1 to {}", Self::MAX_LIMIT)))?;
            } else if ids::is_one(Verification::PREFIX, &value) {
                page.starting_after = Some(value);
            } else {
                return Err(refused("must be the id of a verification".to_owned()));
            }
        }
        Ok(page)
    }
}

/// A page of verifications.
#[derive(Serialize, ToSchema)]
struct VerificationList<'a> {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<VerificationBody<'a>>,
    #[schema(example = false)]
    has_more: bool,
    /// The `starting_after` of the next page; `null` on the last page.
    #[schema(required, example = json!(null))]
    next_cursor: Option<&'a str>,
    #[schema(example = 1)]
    total_count: u64,
}

#[cfg(test)]
mod tests;
