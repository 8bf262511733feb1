//! What differs from one vendor's API to the next, as far as the stack before its handlers needs to know.

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
    /// The permissions that a key of it can have.
    const PERMISSIONS: &'static [Permission];
    /// How it tells clients about its rate limit.
    const RATE_LIMIT_HEADERS: RateLimitHeaders;
    /// First segments of its paths, of an API that answers every path below them.
    const PATH_PREFIXES: &'static [&'static str] = &[];
    /// Whether an account has one secret that its webhooks are signed with.
    const HAS_SIGNING_SECRET: bool = true;
    /// Whether its paths are served without `/v1` as well.
    const AT_ROOT: bool = false;

    /// Who calls it.
    type User: Caller;

    /// Returns the caller that the owner of a key is to this API.
    fn user(&self, owner: KeyOwner) -> Self::User;

    /// The keys of `--demo`, which are public.
    fn demo(&self) -> Vec<(ApiKey, KeyOwner)>;

    /// What it promises about idempotency keys.
    fn contract(&self) -> Contract;

    /// The bucket whose rate limit headers a caller without a key gets, of an API that sends them on every response.
    fn anonymous_bucket(&self) -> Option<Bucket> {
        None
    }

    /// Puts every response into the API's envelope: request id, and its words for a bare status.
    fn apply_envelope(router: Router) -> Router;
}

/// Who calls: found by key, and carried in the extensions of the request.
pub trait Caller: Clone + Send + Sync + 'static {
    /// The scope of its idempotency keys. No two callers of any API share one.
    fn scope(&self) -> Scope;
    /// The bucket of the key it came with.
    fn bucket(&self) -> &Bucket;
    /// Whether its key has this permission.
    fn may(&self, permission: Permission) -> bool;
}
