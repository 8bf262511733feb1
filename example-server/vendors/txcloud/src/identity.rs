//! `POST /identity/verify`, and what is read of verifications.

pub(super) mod judgement;
pub(super) mod request;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use self::judgement::{judge, seen_before};
use self::request::{Mode, Request, VerificationRequest};
use super::api::{Api, respond};
use super::background;
use super::engines::EngineFault;
use super::envelope::Context;
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
use platform::{clock, failpoint};

/// Verifies an identity by a document.
///
/// With the mode `sync` the caller waits for the judgement. With `async` the answer is 202 at once, with the status
/// `pending`; it is judged in the background, and read with the operations below.
#[utoipa::path(
    post, path = "/identity/verify", operation_id = "createVerification", tag = "Identity", request_body = VerificationRequest,
    responses(
        (status = 200, description = "The judgement", body = VerificationBody),
        (status = 202, description = "It is judged in the background", body = VerificationBody),
        (status = 400, description = "missing_parameter invalid_parameter invalid_document unsupported_country \
            unsupported_document"),
    ),
)]
pub(super) async fn verify(
    State(api): State<Arc<Api>>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    transaction: RequestTransaction,
    _place: BodyPermit,
    Raw(body): Raw,
) -> Response {
    let verification = async {
        let mut request = Request::read(&body, &api.callbacks.outbound)?;
        let (mode, tell) = (request.mode, request.webhook_url.take());
        // Nothing is held meanwhile: no connection, no lock.
        let mut verification = receive(&api, &user, request).await?;
        match mode {
            Mode::Sync => judge_and_keep(&api, &transaction, &mut verification, tell.as_deref()).await?,
            Mode::Async => background::accept(&api, &transaction, &verification, tell).await?,
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

/// A verification that is not judged yet, its images with the engine.
async fn receive(api: &Api, user: &User, request: Request) -> Result<Verification, EngineFault> {
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

/// Has it judged, and keeps it. Whether its document came before is known for certain only in the transaction that says so, and
/// the engine must be asked before that. So of two at the same time, the one that comes second is judged once more.
async fn judge_and_keep(
    api: &Api,
    transaction: &RequestTransaction,
    verification: &mut Verification,
    tell: Option<&str>,
) -> Result<(), Failure> {
    let mut seen_before = seen_before(api, verification).await?;
    loop {
        let findings = judge(api, verification, seen_before).await?;
        verification.outcome = Outcome::Judged(Box::new(findings));
        let kept = transaction.run(async |tx| {
            let is_first = documents::claim(tx.connection(), verification).await?;
            if !is_first && !seen_before && verification.asks_for_duplicates() {
                // No transaction stays open while the engine thinks.
                return Err(NotKept::SeenBefore);
            }
            verifications::insert(tx.connection(), verification).await?;
            if let Some(url) = tell {
                events::announce(&api.callbacks, tx.connection(), verification, url).await?;
            }
            Ok(())
        });
        match kept.await {
            Ok(()) => return Ok(()),
            Err(NotKept::SeenBefore) => seen_before = true,
            Err(NotKept::Failed(failure)) => return Err(failure),
        }
    }
}

/// Why a judgement is not kept.
enum NotKept {
    /// The document came before, which the engine did not know.
    SeenBefore,
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for NotKept {
    fn from(error: F) -> Self {
        Self::Failed(error.into())
    }
}

/// Reads one verification.
#[utoipa::path(
    get, path = "/identity/verify/{id}", operation_id = "getVerification", tag = "Identity",
    params(("id" = String, Path, description = "Which one.")),
    responses((status = 200, description = "The verification", body = VerificationBody)),
)]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    Path(id): Path<String>,
) -> Response {
    match find(&api, &user, &id).await {
        Ok(verification) => context.answer(StatusCode::OK, &verification.to_response()),
        Err(failure) => context.fail(&failure),
    }
}

/// Reads one verification, where the vendor's reference has it.
#[utoipa::path(
    get, path = "/identity/verifications/{id}", operation_id = "getListedVerification", tag = "Identity",
    params(("id" = String, Path, description = "Which one.")),
    responses((status = 200, description = "The verification", body = VerificationBody)),
)]
pub(super) async fn one_listed(
    api: State<Arc<Api>>,
    user: Extension<User>,
    context: Extension<Context>,
    id: Path<String>,
) -> Response {
    one(api, user, context, id).await
}

async fn find(api: &Api, user: &User, id: &str) -> Result<Verification, Failure> {
    if !ids::is_one(Verification::PREFIX, id) {
        return Err(Failure::not_found());
    }
    let mut reader = api.database.read().await?;
    verifications::load(reader.connection(), Owner::of(user), id).await?.ok_or_else(Failure::not_found)
}

/// Lists verifications, the latest first.
#[utoipa::path(
    get, path = "/identity/verifications", operation_id = "listVerifications", tag = "Identity",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many, 20 if nothing is said"),
        ("starting_after" = Option<String>, Query, description = "The id behind which the page begins"),
    ),
    responses(
        (status = 200, description = "A page of them", body = VerificationList),
        (status = 400, description = "invalid_parameter"),
    ),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    RawQuery(query): RawQuery,
) -> Response {
    let page = async {
        let page = Page::read(query.as_deref().unwrap_or_default())?;
        let mut reader = api.database.read().await?;
        let owner = Owner::of(&user);
        let after = page.starting_after.as_deref();
        // One more than asked for tells whether there is more.
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

/// A page of a list.
struct Page {
    limit: u32,
    starting_after: Option<String>,
}

impl Page {
    const LIMIT: u32 = 20;
    const MOST: u32 = 100;

    /// Of a parameter that is there twice, the last one counts; others are left alone.
    fn read(query: &str) -> Result<Self, Failure> {
        let mut page = Self { limit: Self::LIMIT, starting_after: None };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=Self::MOST).contains(limit));
                    page.limit = limit.ok_or_else(|| {
                        Failure::invalid_parameter(
                            "limit",
                            format!("must be an integer from 1 to {}", Self::MOST),
                        )
                    })?;
                }
                "starting_after" => {
                    if !ids::is_one(Verification::PREFIX, &value) {
                        return Err(Failure::invalid_parameter(
                            "starting_after",
                            "must be the id of a verification",
                        ));
                    }
                    page.starting_after = Some(value.into_owned());
                }
                _ => {}
            }
        }
        Ok(page)
    }
}

/// Some verifications.
#[derive(Serialize, ToSchema)]
struct VerificationList<'a> {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<VerificationBody<'a>>,
    #[schema(example = false)]
    has_more: bool,
    /// What to begin the next page behind.
    #[schema(required, example = json!(null))]
    next_cursor: Option<&'a str>,
    #[schema(example = 1)]
    total_count: u64,
}

#[cfg(test)]
mod tests;
