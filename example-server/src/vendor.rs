//! What differs from one vendor's API to the next, as far as the stack before its handlers needs to know.

use axum::Router;
use idempotency_layer::{Contract, Scope};

use crate::accounts::{ApiKey, Holder, KeyForm, Permission};
use crate::rate_limit::{Bucket, Style};

/// A vendor's API.
pub(crate) trait Vendor: std::fmt::Debug + Send + Sync + 'static {
    /// Its name, as the database and the command line have it.
    const NAME: &'static str;
    /// What its keys look like.
    const KEYS: KeyForm;
    /// What a key of it may be allowed to do.
    const PERMISSIONS: &'static [Permission];
    /// How it states what is left of a rate limit.
    const NUMBERS: Style;
    /// What its paths begin with, of an API that answers for what is nowhere below these.
    const FAMILIES: &'static [&'static str] = &[];

    /// Who calls it.
    type User: Caller;

    /// Who the holder of a key is to this API.
    fn user(&self, holder: Holder) -> Self::User;

    /// The keys of `--demo`, which are public.
    fn demo(&self) -> Vec<(ApiKey, Holder)>;

    /// What it promises about idempotency keys.
    fn contract(&self) -> Contract;

    /// The bucket whose numbers are stated to who is nobody, of an API that states them on every answer.
    fn nobody(&self) -> Option<Bucket> {
        None
    }

    /// Puts its frame around whatever is answered: request id, and its words for what is answered bare.
    fn frame(router: Router) -> Router;
}

/// Who calls: found by key, and carried in the extensions of the request.
pub(crate) trait Caller: Clone + Send + Sync + 'static {
    /// Whose its idempotency keys are; of all APIs, nobody else's.
    fn scope(&self) -> Scope;
    /// The bucket of the key it came with.
    fn bucket(&self) -> &Bucket;
    /// Whether the key was given this permission.
    fn may(&self, permission: Permission) -> bool;
}
