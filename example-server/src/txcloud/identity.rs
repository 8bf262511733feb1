//! `POST /identity/verify`, and what is read of verifications.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::api::{Api, refuse, respond, timed};
use super::background;
use super::country::Country;
use super::engines::EngineFault;
use super::engines::identity::{DocumentType, Findings, IdentityCheck, Images};
use super::envelope::Context;
use super::errors::Failure;
use super::ids;
use super::reading::{Field, Object, Raw};
use super::store::verifications::{self, Owner};
use super::user::User;
use super::verification::{Outcome, Verification, VerificationBody};
use crate::bodies::Place;
use crate::cep::text_enum;
use crate::clock;
use crate::db::{Connection, Work};

/// Verifies an identity by a document.
///
/// With the mode `sync` the caller waits for the judgement. With `async` the answer is 202 at once, with the status
/// `pending`; it is judged in the background, and read with the operations below.
#[utoipa::path(
    post, path = "/identity/verify", operation_id = "createVerification", tag = "TXCloud", request_body = VerificationRequest,
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
    work: Work,
    _place: Place,
    Raw(body): Raw,
) -> Response {
    let verification = async {
        let request = Request::read(&body)?;
        let mode = request.mode;
        // Nothing is held meanwhile: no connection, no lock.
        let mut verification = receive(&api, &user, request).await?;
        match mode {
            Mode::Sync => {
                let findings = judge(&api, &verification).await?;
                verification.outcome = Outcome::Judged(Box::new(findings));
                let mut transaction = work.begin().await?;
                verifications::insert(transaction.connection(), &verification).await?;
            }
            Mode::Async => background::accept(&api, &work, &verification).await?,
        }
        Ok((mode, verification))
    };
    match verification.await {
        Ok((Mode::Sync, verification)) => context.answer(StatusCode::OK, &verification.shown()),
        Ok((Mode::Async, verification)) => {
            let mut response = context.answer(StatusCode::ACCEPTED, &verification.shown());
            // Once it is committed, and the answer on its way out, the stack wakes the worker.
            response.extensions_mut().insert(api.worker.clone());
            response
        }
        Err(failure) => refuse(&context, &work, &failure).await,
    }
}

/// A verification that is not judged yet, its images with the engine.
async fn receive(api: &Api, user: &User, request: Request) -> Result<Verification, EngineFault> {
    let evidence = api.engines.receive(user.environment(), &request.images).await?;
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

/// Has it judged. Of two with one document that are judged at the same time, neither may know of the other.
pub(super) async fn judge(api: &Api, verification: &Verification) -> Result<Findings, Failure> {
    let seen_before = {
        let mut reader = api.database.read().await?;
        seen_before(reader.connection(), verification).await?
    };
    let case = verification.case(seen_before);
    let (findings, _) = timed("identity", api.engines.identity(verification.environment, &case)).await?;
    Ok(findings)
}

async fn seen_before(connection: Connection<'_>, verification: &Verification) -> sqlx::Result<bool> {
    // Who did not ask does not wait for the answer.
    if !verification.checks.contains(&IdentityCheck::Duplicate) {
        return Ok(false);
    }
    verifications::has_document(connection, verification).await
}

/// Reads one verification.
#[utoipa::path(
    get, path = "/identity/verify/{id}", operation_id = "getVerification", tag = "TXCloud",
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
        Ok(verification) => context.answer(StatusCode::OK, &verification.shown()),
        Err(failure) => context.fail(&failure),
    }
}

/// Reads one verification, where the vendor's reference has it.
#[utoipa::path(
    get, path = "/identity/verifications/{id}", operation_id = "getListedVerification", tag = "TXCloud",
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
    get, path = "/identity/verifications", operation_id = "listVerifications", tag = "TXCloud",
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
            let data: Vec<_> = found.iter().map(Verification::shown).collect();
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

text_enum! {
    /// Whether the caller waits.
    pub(crate) enum Mode {
        /// `sync`
        Sync = "sync",
        /// `async`
        Async = "async",
    }
}

/// What is asked for.
struct Request {
    document_type: DocumentType,
    country: Country,
    checks: Vec<IdentityCheck>,
    images: Images,
    mode: Mode,
    metadata: Map<String, Value>,
}

impl Request {
    fn read(body: &[u8]) -> Result<Self, Failure> {
        let body = Object::body(body)?;
        let front = body.required("document_front")?.image()?;
        let country = body.required("country")?.country()?;
        let document_type = document_type(&body.required("document_type")?)?;
        let back = body.optional("document_back").map(|field| field.image()).transpose()?;
        let selfie = body.optional("selfie").map(|field| field.image()).transpose()?;
        let checks = checks(&body)?.unwrap_or_else(|| default_checks(selfie.is_some()));
        let mode = body.optional("mode").map_or(Ok(Mode::Sync), |field| field.one_of(Mode::ALL))?;
        refuse_webhook(&body)?;
        let metadata = metadata(&body)?;
        Ok(Self { document_type, country, checks, images: Images { front, back, selfie }, mode, metadata })
    }
}

/// What is there to be checked, but for whether it was there before: that is for who asks.
fn default_checks(has_selfie: bool) -> Vec<IdentityCheck> {
    let of_face = |check: &IdentityCheck| matches!(check, IdentityCheck::FaceMatch | IdentityCheck::Liveness);
    let checks = IdentityCheck::ALL.iter().copied();
    checks.filter(|check| *check != IdentityCheck::Duplicate && (has_selfie || !of_face(check))).collect()
}

pub(super) fn document_type(field: &Field<'_>) -> Result<DocumentType, Failure> {
    field.one_of(DocumentType::ALL).map_err(|failure| {
        // What is a text is a type that somebody may have, and we do not.
        if failure.message.contains("one of") {
            Failure { code: "unsupported_document", ..failure }
        } else {
            failure
        }
    })
}

pub(super) fn checks(body: &Object<'_>) -> Result<Option<Vec<IdentityCheck>>, Failure> {
    body.optional("checks").map(|field| field.some_of(IdentityCheck::ALL)).transpose()
}

pub(super) fn metadata(body: &Object<'_>) -> Result<Map<String, Value>, Failure> {
    body.optional("metadata").map_or(Ok(Map::new()), |field| field.free_form())
}

/// A call that nobody would make must not be promised. (The vendor signs what it sends with a secret of the endpoint, and
/// endpoints are registered by operations that this server does not have.)
pub(super) fn refuse_webhook(body: &Object<'_>) -> Result<(), Failure> {
    match body.optional("webhook_url") {
        Some(field) => {
            Err(field.refused("is not supported by this server: ask for the verification by its id"))
        }
        None => Ok(()),
    }
}

/// A document to be verified.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct VerificationRequest {
    /// The image, in base64.
    #[schema(example = "/9j/4AAQSkZJRg==")]
    document_front: String,
    country: Country,
    document_type: DocumentType,
    #[schema(example = "/9j/4AAQSkZJRg==")]
    document_back: Option<String>,
    #[schema(example = "/9j/4AAQSkZJRg==")]
    selfie: Option<String>,
    /// If none is named: `ocr` and `fraud`, and with a selfie `face_match` and `liveness`.
    #[schema(min_items = 1)]
    checks: Option<Vec<IdentityCheck>>,
    /// `sync`, if nothing is said.
    mode: Option<Mode>,
    /// The caller's own, to be given back: at most 50 members, 4096 bytes.
    #[schema(value_type = Option<Object>, example = json!({"user_id": "usr_abc123"}))]
    metadata: Option<Map<String, Value>>,
}

#[cfg(test)]
mod tests;
