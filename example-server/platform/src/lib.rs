//! What every API of the reference server stands on. Nothing here knows a vendor.
//!
//! | module | what |
//! |---|---|
//! | `api`, `vendor` | what a vendor's API provides, and what differs from one to the next |
//! | `state` | [`Platform`]: what the APIs share |
//! | `stack`, `route` | the middleware before the operations of an API; one operation |
//! | `account`, `api_key`, `accounts`, `keys`, `auth`, `owner` | who calls |
//! | `bucket`, `rate_limit`, `rate_limit_headers`, `kept_keys`, `bodies`, `places`, `turns` | how often, and how much at a time |
//! | `host`, `content` | what is wrong with the head of a request, whatever it asks for |
//! | `envelope`, `response_headers` | the envelope around every response; what keeps it from caches |
//! | `openapi` | the descriptions of the APIs, made of the routes |
//! | `db` | SQLite or PostgreSQL, one SQL text for both |
//! | `cycles`, `worker` | the scheduler, and what makes the attempts of its cycles |
//! | `webhooks`, `encryption` | webhook subscriptions and delivery; secrets as they are kept |
//! | `outbound`, `tls`, `retry_after` | calls to URLs that customers give; whom TLS trusts; waits that others ask for |
//! | `config` | the configuration file |
//! | `server` | connections and shutdown |
//! | `ops` | log, metrics, health |

// Not published: a doc comment stands where a name does not say it all.
#![allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

pub mod account;
pub mod accounts;
pub mod api;
pub mod api_key;
pub mod auth;
pub mod bodies;
pub mod bucket;
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
pub mod hex;
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
