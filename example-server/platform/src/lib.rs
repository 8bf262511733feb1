//! The platform under every API of the reference server. Nothing here depends on a vendor.
//!
//! | module | purpose |
//! |---|---|
//! | `api`, `vendor` | the traits that each vendor's API implements |
//! | `state` | [`Platform`]: the state that the APIs share |
//! | `stack`, `route`, `call` | the middleware stack of an API; a single operation; the arguments of its handler |
//! | `account`, `api_key`, `accounts`, `keys`, `auth`, `owner` | accounts, API keys, authentication |
//! | `bucket`, `rate_limit`, `rate_limit_headers`, `kept_keys`, `bodies`, `places`, `turns` | rate limits, concurrency limits |
//! | `host`, `content`, `query` | checks of the request head that apply to every operation; query parameters |
//! | `envelope`, `response_headers` | the response envelope; security and cache headers |
//! | `openapi` | the `OpenAPI` documents, generated from the routes |
//! | `db` | SQLite or PostgreSQL, with the same SQL for both |
//! | `cycles`, `worker` | the scheduler, and the worker that runs its attempts |
//! | `webhooks`, `encryption` | webhook subscriptions and delivery; encryption of stored secrets |
//! | `outbound`, `tls`, `retry_after` | calls to customers' URLs; root certificates; `Retry-After` |
//! | `config` | the configuration file |
//! | `server` | connections and shutdown |
//! | `ops` | log, metrics, health |

// Not published: items have doc comments only where the name is not enough.
#![allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

pub mod account;
pub mod accounts;
pub mod api;
pub mod api_key;
pub mod auth;
pub mod bodies;
pub mod bucket;
pub mod call;
pub mod clock;
pub mod config;
pub mod content;
pub mod cycles;
pub mod db;
pub mod decimal;
pub mod encryption;
pub mod envelope;
pub mod etag;
pub mod failpoint;
pub mod host;
pub mod json;
pub mod kept_keys;
pub mod keys;
pub mod language;
pub mod openapi;
pub mod ops;
pub mod outbound;
pub mod owner;
pub mod places;
pub mod query;
pub mod rate_limit;
pub mod rate_limit_headers;
pub mod response_headers;
pub mod retry_after;
pub mod route;
pub mod server;
pub mod stack;
pub mod state;
pub mod text;
pub mod tls;
pub mod turns;
pub mod utc;
pub mod vendor;
pub mod webhooks;
pub mod worker;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use state::Platform;

/// An error of any kind, with its source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
