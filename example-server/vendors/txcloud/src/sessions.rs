//! `/identity/sessions`: sessions in which a document is submitted step by step.
//!
//! The steps themselves are not part of this API, so a session stays pending until it expires.

use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::api::{Api, Call, respond};
use super::country::Country;
use super::engines::identity::{DocumentType, IdentityCheck};
use super::errors::Failure;
use super::free_form::FreeForm;
use super::identity::request::{checks, document_type, metadata};
use super::ids;
use super::reading::{Object, Raw};
use super::session::Session;
use super::store::sessions;
use super::store::verifications::Owner;
use super::user::User;
use platform::db::RequestTransaction;
use platform::text::text_enum;
use platform::utc::Utc;
use platform::{clock, failpoint};

text_enum! {
    /// The status of a session.
    pub(crate) enum SessionStatus {
        Pending = "pending",
        Expired = "expired",
    }
}

impl Session {
    const PREFIX: &'static str = "sess";

    /// Returns the status, which depends only on the time.
    fn status(&self, now: Timestamp) -> SessionStatus {
        if now < self.expires_at { SessionStatus::Pending } else { SessionStatus::Expired }
    }

    fn into_body(self, now: Timestamp) -> SessionBody {
        SessionBody {
            status: self.status(now),
            id: self.id,
            object: "identity.session",
            document_type: self.document_type,
            country: self.country,
            checks: self.checks,
            documents: [],
            selfie_uploaded: false,
            metadata: self.metadata,
            expires_at: Utc(self.expires_at),
            created_at: Utc(self.created_at),
        }
    }
}

/// Creates a session.
///
/// It expires after 15 minutes by default.
#[utoipa::path(
    post, path = "/identity/sessions", operation_id = "createSession", tag = "Identity", request_body = SessionRequest,
    responses(
        (status = 201, description = "The session", body = SessionBody),
        (status = 400, description = "missing_parameter invalid_parameter unsupported_country unsupported_document"),
    ),
)]
pub(super) async fn create(
    Call { api, user, context }: Call,
    transaction: RequestTransaction,
    Raw(body): Raw,
) -> Response {
    let session = async {
        let now = clock::timestamp();
        let session = read(&body, &api, &user, now)?;
        transaction
            .run(async |tx| Ok::<_, Failure>(sessions::insert(tx.connection(), &session).await?))
            .await?;
        failpoint::hit("before-commit").await;
        Ok(session.into_body(now))
    };
    match session.await {
        Ok(session) => context.answer(StatusCode::CREATED, &session),
        Err(failure) => context.fail(&failure),
    }
}

fn read(body: &[u8], api: &Api, user: &User, now: Timestamp) -> Result<Session, Failure> {
    let body = Object::body(body)?;
    Ok(Session {
        id: ids::new(Session::PREFIX),
        account: user.account().to_owned(),
        environment: user.environment(),
        document_type: document_type(&body.required("document_type")?)?,
        country: body.required("country")?.country()?,
        checks: checks(&body)?.unwrap_or_default(),
        metadata: metadata(&body)?,
        created_at: now,
        expires_at: now.saturating_add(api.session_life).unwrap_or(Timestamp::MAX),
    })
}

/// Returns a session.
#[utoipa::path(
    get, path = "/identity/sessions/{id}", operation_id = "getSession", tag = "Identity",
    params(("id" = String, Path, description = "The id of the session.")),
    responses((status = 200, description = "The session", body = SessionBody)),
)]
pub(super) async fn one(Call { api, user, context }: Call, Path(id): Path<String>) -> Response {
    let session = async {
        if !ids::is_one(Session::PREFIX, &id) {
            return Err(Failure::not_found());
        }
        let mut reader = api.database.read().await?;
        let session = sessions::load(reader.connection(), Owner::of(&user), &id).await?;
        let session = session.ok_or_else(Failure::not_found)?;
        Ok((StatusCode::OK, session.into_body(clock::timestamp())))
    };
    respond(&context, session.await)
}

/// The API's representation of a session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionBody {
    #[schema(example = "sess_0199f3a1b2c37d4e8f5a6b7c8d9e0f1a")]
    id: String,
    #[schema(example = "identity.session")]
    object: &'static str,
    status: SessionStatus,
    document_type: DocumentType,
    country: Country,
    checks: Vec<IdentityCheck>,
    /// The submitted documents: always empty.
    #[schema(value_type = Vec<Object>, example = json!([]))]
    documents: [(); 0],
    #[schema(example = false)]
    selfie_uploaded: bool,
    #[schema(value_type = Object, example = json!({"user_id": "usr_abc123"}))]
    metadata: FreeForm,
    expires_at: Utc,
    created_at: Utc,
}

/// The request for a session.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct SessionRequest {
    document_type: DocumentType,
    country: Country,
    #[schema(min_items = 1)]
    checks: Option<Vec<IdentityCheck>>,
    /// Free-form data of the caller, returned unchanged: at most 50 members and 4096 bytes. With a
    /// test key, `sandbox_delay_ms` is the number of milliseconds, up to 5000, that the request
    /// waits before it takes effect and is answered.
    #[schema(value_type = Option<Object>, example = json!({"user_id": "usr_abc123"}))]
    metadata: Option<Map<String, Value>>,
}
