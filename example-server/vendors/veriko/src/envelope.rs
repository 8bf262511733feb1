//! The response envelope: `data`, `meta` and `links`, or `errors` and `meta`.

use account_retry_policy::Violations;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use idempotency_layer::Rejection;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::described::Violation;
use super::errors::{CODES, Failure, Text};
use super::rejection;
use platform::envelope::{self, ErrorRenderer};
use platform::language::Language;

/// The properties of a request that its response needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    request_id: String,
    language: Language,
}

impl ErrorRenderer for Context {
    const JSON: &'static str = "application/json; charset=utf-8";

    fn of(headers: &HeaderMap) -> Self {
        Self { request_id: envelope::random_id(), language: Language::preferred(headers) }
    }

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn rejected(&self, rejection: &Rejection) -> Response {
        self.fail(&rejection::failure(rejection))
    }

    fn refused(&self, bare: &Response) -> Response {
        self.fail(&Failure::of_bare(bare))
    }
}

impl Context {
    /// Returns a 200 response with `data`.
    pub(crate) fn ok(&self, data: &impl Serialize) -> Response {
        self.ok_with(data, &Nothing {})
    }

    /// Returns a 200 response with `data` and additional fields in `meta`.
    pub(crate) fn ok_with<Data: Serialize, More: Serialize>(&self, data: &Data, more: &More) -> Response {
        self.succeed(StatusCode::OK, data, more)
    }

    /// Returns a 201 response with `data`.
    pub(crate) fn created(&self, data: &impl Serialize) -> Response {
        self.succeed(StatusCode::CREATED, data, &Nothing {})
    }

    /// Returns a 202 response with `data` and additional fields in `meta`.
    pub(crate) fn accepted_with<Data: Serialize, More: Serialize>(
        &self,
        data: &Data,
        more: &More,
    ) -> Response {
        self.succeed(StatusCode::ACCEPTED, data, more)
    }

    /// Returns the response for a failure, in the caller's language.
    pub(crate) fn fail(&self, failure: &Failure) -> Response {
        debug_assert!(
            failure.errors.iter().all(|error| CODES.iter().any(|(code, _)| *code == error.code)),
            "a code is missing in errors/codes.rs"
        );
        let errors = failure.errors.iter().map(|error| ErrorItem {
            status: failure.status.as_str(),
            code: error.code,
            detail: error.detail.in_language(self.language),
            source: error.pointer.as_ref().map(|pointer| ErrorSource { pointer }),
        });
        let more = ErrorMore {
            retry_after: failure.retry_after_seconds,
            violations: failure.violations.as_ref(),
            limit: failure.limit,
            event: failure.event.as_ref(),
        };
        let document = ErrorDocument { errors: errors.collect(), meta: self.meta(more) };
        let mut response = self.render_failure(failure.status, failure.retry_after_seconds, &document);
        let language = HeaderValue::from_static(self.language.tag());
        response.headers_mut().insert(header::CONTENT_LANGUAGE, language);
        response
    }

    /// Returns the text in the caller's language.
    pub(crate) fn say<'a>(&self, text: &'a Text) -> &'a str {
        text.in_language(self.language)
    }

    fn succeed<Data: Serialize, More: Serialize>(
        &self,
        status: StatusCode,
        data: &Data,
        more: &More,
    ) -> Response {
        self.render(status, &Envelope { data, meta: self.meta(more), links: Links {} })
    }

    fn meta<More>(&self, more: More) -> MetaAnd<'_, More> {
        MetaAnd { meta: Meta::of(&self.request_id), more }
    }
}

/// A resource of which each account has exactly one, so that it needs no id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resource<Attributes> {
    pub(crate) r#type: &'static str,
    pub(crate) attributes: Attributes,
}

/// A success. `meta` has the fields of `More` in addition to the usual ones.
#[derive(Serialize, ToSchema)]
pub(crate) struct Envelope<'a, Data, More = Nothing> {
    data: Data,
    meta: MetaAnd<'a, More>,
    links: Links,
}

/// No additional fields.
#[derive(Serialize, ToSchema)]
pub(crate) struct Nothing {}

#[derive(Serialize, ToSchema)]
struct MetaAnd<'a, More> {
    #[serde(flatten)]
    meta: Meta<'a>,
    #[serde(flatten)]
    more: More,
}

/// Metadata of every response.
#[derive(Serialize, ToSchema)]
struct Meta<'a> {
    /// The server's version.
    #[schema(example = "0.1.0", pattern = r"^\d+\.\d+\.\d+$")]
    version: &'static str,
    #[schema(example = "v1")]
    api_version: &'static str,
    /// The id of the request; the same as the header `X-Request-Id`.
    #[schema(example = "b3c4d5e6f7a8", pattern = "^[0-9a-f]{12}$")]
    request_id: &'a str,
    datetime: DatetimeMeta,
}

impl<'a> Meta<'a> {
    fn of(request_id: &'a str) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            api_version: "v1",
            request_id,
            datetime: DatetimeMeta::UTC,
        }
    }
}

/// The format of all times.
#[derive(Serialize, ToSchema)]
pub(super) struct DatetimeMeta {
    #[schema(example = "UTC")]
    timezone: &'static str,
    #[schema(example = "ISO 8601")]
    format: &'static str,
}

impl DatetimeMeta {
    pub(super) const UTC: Self = Self { timezone: "UTC", format: "ISO 8601" };
}

#[derive(Serialize, ToSchema)]
struct Links {}

/// A failure with all its errors.
#[derive(Serialize, ToSchema)]
struct ErrorDocument<'a> {
    #[schema(min_items = 1)]
    errors: Vec<ErrorItem<'a>>,
    meta: MetaAnd<'a, ErrorMore<'a>>,
}

/// One error.
#[derive(Serialize, ToSchema)]
struct ErrorItem<'a> {
    /// The HTTP status of the response.
    #[schema(example = "422")]
    status: &'a str,
    /// The stable, machine-readable code of the error.
    #[schema(example = "required")]
    code: &'static str,
    /// The description of the error for people.
    #[schema(example = "fecha is required.")]
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    source: Option<ErrorSource<'a>>,
}

/// The field that caused the error.
#[derive(Serialize, ToSchema)]
struct ErrorSource<'a> {
    #[schema(example = "/data/attributes/fecha")]
    pointer: &'a str,
}

/// The additional `meta` fields of some failures. The document describes them with the codes that
/// have them.
#[derive(Serialize, ToSchema)]
struct ErrorMore<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    violations: Option<&'a Violations>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    event: Option<&'a Value>,
}

/// Returns the schemas that the responses of all operations share.
pub(super) fn shared_schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = vec![
        (ErrorDocument::name().into_owned(), ErrorDocument::schema()),
        (Violation::name().into_owned(), Violation::schema()),
    ];
    ErrorDocument::schemas(&mut schemas);
    schemas
}

/// Returns `meta` as the examples show it.
pub(super) fn meta_example() -> Value {
    json!(Meta::of("b3c4d5e6f7a8"))
}
