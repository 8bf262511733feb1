//! What a vendor's document says that its routes do not.

use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};

use crate::vendor::Vendor;

/// A vendor's API that is described.
pub trait Documented: Vendor {
    /// Its name, for people.
    const TITLE: &'static str;
    /// What stands before the paths of its routes.
    const PREFIX: &'static str;
    /// Below what its paths are served, with a word on each; the first is preferred.
    const SERVERS: &'static [(&'static str, &'static str)] = &[("/", "This server")];
    /// What a reader should know first, in Markdown.
    const INTRODUCTION: &'static str;
    /// The groups of its operations, and what each is about.
    const TAGS: &'static [(&'static str, &'static str)];
    /// What an API key looks like, and a sentence on it.
    const KEY: (&'static str, &'static str);
    /// Every code of a failure, and what it means.
    const CODES: &'static [(&'static str, &'static str)];
    /// The codes that no operation needs to list.
    const IMPLIED: Implied;

    /// The `{id}` of paths whose operations do not describe it: a schema with an example.
    fn id() -> Value;

    /// An `Idempotency-Key`: a schema.
    fn idempotency_key() -> Value;

    /// Parameters that every operation has.
    fn parameters() -> Vec<Value> {
        Vec::new()
    }

    /// Headers of answers, beside those of the rate limit, `Retry-After` and `WWW-Authenticate`.
    fn headers() -> Vec<Header>;

    /// The schemas of what every operation answers with.
    fn schemas() -> Vec<(String, RefOr<Schema>)>;

    /// The body of an answer that says what is wrong.
    fn failure(failures: &Failures<'_>) -> Body;

    /// What this code means.
    fn meaning(code: &str) -> &'static str {
        Self::CODES.iter().find(|(known, _)| *known == code).map_or("", |(_, meaning)| meaning)
    }
}

/// The codes of failures by their status.
type Codes = &'static [(u16, &'static [&'static str])];

/// Which codes follow from the flags of a route.
#[derive(Debug)]
pub struct Implied {
    /// Of what is asked for by its id.
    pub by_id: Codes,
    /// Of what takes a body.
    pub takes_body: Codes,
    /// Of what has its body read, by whomever.
    pub reads_body: Codes,
    /// Of what an `Idempotency-Key` means something to.
    pub idempotent: Codes,
    /// Of what takes an API key.
    pub key: Codes,
    /// Of what takes a permission.
    pub permission: Codes,
    /// Of everything.
    pub any: Codes,
}

/// What can be wrong when an answer has this status.
#[derive(Debug)]
pub struct Failures<'a> {
    pub status: u16,
    /// At least one.
    pub codes: &'a [String],
    /// Whether it can say when to come back.
    pub may_say_when: bool,
}

/// What an answer says, and an example.
#[derive(Debug)]
pub struct Body {
    pub schema: Value,
    pub example: Value,
}

/// A header of answers.
#[derive(Debug)]
pub struct Header {
    pub name: &'static str,
    pub on: On,
    pub description: &'static str,
    pub schema: Value,
}

/// Which answers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Every,
    /// Those that say what is wrong.
    Failure,
    /// Those of operations to which an `Idempotency-Key` means something.
    Idempotent,
    /// The same, but of requests that reach the idempotency layer.
    Engaged,
}
