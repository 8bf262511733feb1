//! The parts of a vendor's API that its middleware stack depends on.

use axum::Router;
use idempotency_layer::{Contract, Scope};

use crate::account::{KeyOwner, Permission};
use crate::api_key::{ApiKey, KeyFormat};
use crate::bucket::Bucket;
use crate::rate_limit_headers::RateLimitHeaders;

/// A vendor's API.
pub trait Vendor: std::fmt::Debug + Clone + Send + Sync + 'static {
    /// Its name in the database and on the command line.
    const NAME: &'static str;
    /// The format of its keys.
    const KEY_FORMAT: KeyFormat;
    /// The permissions that its keys can have.
    const PERMISSIONS: &'static [Permission];
    /// The rate limit headers that it sends.
    const RATE_LIMIT_HEADERS: RateLimitHeaders;
    /// The first segments of its paths. The API answers every path below them.
    const PATH_PREFIXES: &'static [&'static str] = &[];
    /// Whether each account has one secret that signs its webhooks.
    const HAS_SIGNING_SECRET: bool = true;
    /// Whether its paths are also served without `/v1`.
    const AT_ROOT: bool = false;

    /// The authenticated caller.
    type User: Caller;

    /// Creates the caller for the owner of a key.
    fn user(&self, owner: KeyOwner) -> Self::User;

    /// Returns the public keys of `--demo`.
    fn demo(&self) -> Vec<(ApiKey, KeyOwner)>;

    /// Returns its idempotency contract.
    fn contract(&self) -> Contract;

    /// Returns the bucket that fills the rate limit headers for a caller without a key, or `None`
    /// if such a caller gets none.
    fn anonymous_bucket(&self) -> Option<Bucket> {
        None
    }

    /// Adds the middleware that puts every response into the API's envelope. The envelope has the
    /// request id, and gives a response without a body the API's error body.
    fn apply_envelope(router: Router) -> Router;
}

/// An authenticated caller. It is looked up by key and carried in the request's extensions.
pub trait Caller: Clone + Send + Sync + 'static {
    /// Returns the scope of its idempotency keys. No two callers of any API share one.
    fn scope(&self) -> Scope;
    /// Returns the name of its account.
    fn account(&self) -> &String;
    /// Returns the rate limit bucket of its key.
    fn bucket(&self) -> &Bucket;
    /// Returns whether its key has this permission.
    fn may(&self, permission: Permission) -> bool;
}
