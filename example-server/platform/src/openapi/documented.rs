//! The parts of a vendor's document that do not come from its routes.

use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};

use crate::vendor::Vendor;

/// A vendor's API with an `OpenAPI` document.
pub trait Documented: Vendor {
    /// Its display name.
    const TITLE: &'static str;
    /// The prefix of the paths of its routes.
    const PREFIX: &'static str;
    /// The base URLs of its paths, each with a description. The first is preferred.
    const SERVERS: &'static [(&'static str, &'static str)] = &[("/", "This server")];
    /// The introduction, in Markdown.
    const INTRODUCTION: &'static str;
    /// The tags that group its operations, each with a description.
    const TAGS: &'static [(&'static str, &'static str)];
    /// The format of an API key, and a description of it.
    const KEY: (&'static str, &'static str);
    /// All error codes, each with its meaning.
    const CODES: &'static [(&'static str, &'static str)];
    /// The codes that operations do not need to list.
    const IMPLIED: Implied;

    /// Returns the schema of `{id}`, with an example, for operations that do not describe it.
    fn id() -> Value;

    /// Returns the schema of `Idempotency-Key`.
    fn idempotency_key() -> Value;

    /// Returns the parameters that every operation has.
    fn parameters() -> Vec<Value> {
        Vec::new()
    }

    /// Returns the response headers, apart from the rate limit headers, `Retry-After` and
    /// `WWW-Authenticate`.
    fn headers() -> Vec<Header>;

    /// Returns the schemas that the responses of all operations share.
    fn schemas() -> Vec<(String, RefOr<Schema>)>;

    /// Returns the body of an error response.
    fn failure(failures: &Failures<'_>) -> Body;

    /// Returns the meaning of a code.
    fn meaning(code: &str) -> &'static str {
        Self::CODES.iter().find(|(known, _)| *known == code).map_or("", |(_, meaning)| meaning)
    }
}

/// Error codes by status.
type Codes = &'static [(u16, &'static [&'static str])];

/// The error codes that follow from the flags of a route.
#[derive(Debug)]
pub struct Implied {
    /// For operations with an `{id}` in the path.
    pub by_id: Codes,
    /// For operations with a request body.
    pub takes_body: Codes,
    /// For operations whose body is read by the handler or by the idempotency layer.
    pub reads_body: Codes,
    /// For operations that accept an `Idempotency-Key`.
    pub idempotent: Codes,
    /// For operations that need an API key.
    pub key: Codes,
    /// For operations that need a permission.
    pub permission: Codes,
    /// For all operations.
    pub any: Codes,
}

/// The errors that a response with this status can report.
#[derive(Debug)]
pub struct Failures<'a> {
    pub status: u16,
    /// The possible codes, at least one.
    pub codes: &'a [String],
    /// Whether the response can have `Retry-After`.
    pub may_say_when: bool,
}

/// The schema of a response body, and an example.
#[derive(Debug)]
pub struct Body {
    pub schema: Value,
    pub example: Value,
}

/// A response header.
#[derive(Debug)]
pub struct Header {
    pub name: &'static str,
    pub on: On,
    pub description: &'static str,
    pub schema: Value,
}

/// Which responses have a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Every,
    /// Error responses.
    Failure,
    /// Responses of operations that accept an `Idempotency-Key`.
    Idempotent,
    /// Responses of such operations to requests that reach the idempotency layer.
    Engaged,
}
