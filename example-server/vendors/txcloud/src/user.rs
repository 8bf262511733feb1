//! Who calls this API.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use idempotency_layer::{Contract, KeySyntax, Scope};

use super::config::Config;
use super::config::DEFAULTS;
use super::envelope::Context;
use platform::account::{AccountPlan, KeyOwner, Permission};
use platform::api_key::{ApiKey, Environment, KeyFormat};
use platform::bucket::Bucket;
use platform::config::ConfigFile;
use platform::envelope;
use platform::rate_limit_headers::{RateLimitHeaders, Reset, Sent};
use platform::vendor::{Caller, Vendor};

/// `identity:read`
pub(super) const IDENTITY_READ: Permission = Permission::named("identity:read");
/// `identity:write`
pub(super) const IDENTITY_WRITE: Permission = Permission::named("identity:write");
/// `transactions:write`
pub(super) const TRANSACTIONS_WRITE: Permission = Permission::named("transactions:write");
/// `lending:write`
pub(super) const LENDING_WRITE: Permission = Permission::named("lending:write");
/// `kyb:write`
pub(super) const KYB_WRITE: Permission = Permission::named("kyb:write");
/// `watchlist:write`
pub(super) const WATCHLIST_WRITE: Permission = Permission::named("watchlist:write");

/// The API, with what its configuration says.
#[derive(Debug, Clone)]
pub struct Txcloud {
    pub(crate) rate_per_minute: NonZeroU32,
    pub(crate) strict_keys: bool,
}

impl Txcloud {
    /// The API as it is without a configuration file.
    pub fn defaults() -> Self {
        let config = ConfigFile::read(None, &[DEFAULTS]).and_then(|file| file.section(Self::NAME));
        Self::new(&config.expect("the defaults are in order"))
    }

    pub(crate) fn new(config: &Config) -> Self {
        Self { rate_per_minute: config.rate_per_minute, strict_keys: config.strict_keys }
    }
}

/// An account, reached with one of its keys, in the environment of that key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct User {
    owner: Arc<KeyOwner>,
    bucket: Arc<Bucket>,
}

impl User {
    /// What the account is known by, everywhere.
    pub(super) fn account(&self) -> &str {
        &self.owner.account
    }

    pub(super) fn environment(&self) -> Environment {
        self.owner.environment
    }
}

impl Caller for User {
    /// The API key alone: the same account with another key is another scope.
    fn scope(&self) -> Scope {
        Scope::of(Txcloud::NAME).and(&self.owner.key_hash)
    }

    fn account(&self) -> &String {
        &self.owner.account
    }

    fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn may(&self, permission: Permission) -> bool {
        self.owner.permissions.contains(&permission)
    }
}

impl Vendor for Txcloud {
    const NAME: &'static str = "txcloud";
    /// Letters and digits behind the prefix, 12 to 64 of them.
    const KEY_FORMAT: KeyFormat = KeyFormat {
        prefixes: &[("txc_live_", Environment::Live), ("txc_test_", Environment::Test)],
        is_secret: |secret| {
            (12..=64).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_alphanumeric())
        },
    };
    const PERMISSIONS: &'static [Permission] = &[
        IDENTITY_READ,
        IDENTITY_WRITE,
        Permission::named("transactions:read"),
        TRANSACTIONS_WRITE,
        Permission::named("lending:read"),
        LENDING_WRITE,
        Permission::named("kyb:read"),
        KYB_WRITE,
        Permission::named("watchlist:read"),
        WATCHLIST_WRITE,
    ];
    const PATH_PREFIXES: &'static [&'static str] =
        &["identity", "transactions", "lending", "kyb", "watchlist"];
    const RATE_LIMIT_HEADERS: RateLimitHeaders =
        RateLimitHeaders { sent: Sent::Always, reset: Reset::EpochSeconds, window: true };

    const AT_ROOT: bool = true;

    type User = User;

    fn user(&self, owner: KeyOwner) -> User {
        User { bucket: Arc::new(Bucket::per_minute(self.rate_per_minute)), owner: Arc::new(owner) }
    }

    fn demo(&self) -> Vec<(ApiKey, KeyOwner)> {
        let accounts = [
            ("txc_test_abc123def456", "demo-txcloud"),
            ("txc_live_abc123def456", "demo-txcloud"),
            ("txc_test_other0account1", "demo-txcloud-other"),
        ];
        let owner = |(key, account): (&str, &str)| {
            let key = ApiKey::parse(&Self::KEY_FORMAT, key).expect("a key");
            (key.clone(), KeyOwner::of_demo(account, AccountPlan::Free, Self::PERMISSIONS, &key))
        };
        accounts.into_iter().map(owner).collect()
    }

    fn contract(&self) -> Contract {
        let contract = Contract::txcloud();
        if self.strict_keys { contract.key(KeySyntax::token(10..=255)) } else { contract }
    }

    /// Every answer states the numbers, also to who has no key.
    fn anonymous_bucket(&self) -> Option<Bucket> {
        Some(Bucket::per_minute(self.rate_per_minute))
    }

    fn apply_envelope(router: Router) -> Router {
        router.layer(from_fn(envelope::apply_envelope::<Context>)).layer(from_fn(one_endpoint))
    }
}

/// `/identity/verify` and `/v1/identity/verify` are one endpoint: whoever is further in, the idempotency layer with its
/// scopes and fingerprints included, is told the path without the prefix, which the router has taken off.
async fn one_endpoint(mut request: Request, next: Next) -> Response {
    let uri = OriginalUri(request.uri().clone());
    request.extensions_mut().insert(uri);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_their_environment_by_their_prefix() {
        for (text, expected) in [
            ("txc_test_abc123def456", Some(Environment::Test)),
            ("txc_live_abc123def456", Some(Environment::Live)),
            ("txc_test_abc123def45", None),
            ("txc_abc123def456", None),
            ("txc_test_abc123def45!", None),
            ("mxcep_abc123def456", None),
        ] {
            let key = ApiKey::parse(&Txcloud::KEY_FORMAT, text);
            let environment =
                key.map(|key| KeyOwner::of_demo("acme", AccountPlan::Free, &[], &key).environment);
            assert_eq!(environment, expected, "{text}");
        }
    }

    #[test]
    fn the_demo_has_one_account_in_both_environments_and_another() {
        let vendor = Txcloud { rate_per_minute: NonZeroU32::MIN, strict_keys: false };
        let owners: Vec<_> = vendor.demo().into_iter().map(|(_, owner)| owner).collect();
        assert_eq!(owners[0].account, owners[1].account);
        assert_ne!(owners[0].environment, owners[1].environment);
        assert_ne!(owners[0].account, owners[2].account);
        assert_ne!(owners[0].key_hash, owners[1].key_hash);
    }
}
