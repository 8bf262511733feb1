//! The callers of this API.

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

pub(super) const IDENTITY_READ: Permission = Permission::named("identity:read");
pub(super) const IDENTITY_WRITE: Permission = Permission::named("identity:write");
pub(super) const TRANSACTIONS_WRITE: Permission = Permission::named("transactions:write");
pub(super) const LENDING_WRITE: Permission = Permission::named("lending:write");
pub(super) const KYB_WRITE: Permission = Permission::named("kyb:write");
pub(super) const WATCHLIST_WRITE: Permission = Permission::named("watchlist:write");

/// The API with its configuration.
#[derive(Debug, Clone)]
pub struct Txcloud {
    pub(crate) rate_per_minute: NonZeroU32,
    pub(crate) strict_keys: bool,
}

impl Txcloud {
    /// Returns the API with the default configuration.
    pub fn defaults() -> Self {
        let config = ConfigFile::read(None, &[DEFAULTS]).and_then(|file| file.section(Self::NAME));
        Self::new(&config.expect("the defaults are valid"))
    }

    pub(crate) fn new(config: &Config) -> Self {
        Self { rate_per_minute: config.rate_per_minute, strict_keys: config.strict_keys }
    }
}

/// An account in one environment, identified by its API key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct User {
    owner: Arc<KeyOwner>,
    bucket: Arc<Bucket>,
}

impl User {
    /// Returns the name of the account.
    pub(super) fn account(&self) -> &str {
        &self.owner.account
    }

    pub(super) fn environment(&self) -> Environment {
        self.owner.environment
    }
}

impl Caller for User {
    /// Scoped to the API key: another key of the same account is another scope.
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
    /// 12 to 64 letters and digits after the prefix.
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

    /// Every response has rate-limit headers, including those to requests without a key.
    fn anonymous_bucket(&self) -> Option<Bucket> {
        Some(Bucket::per_minute(self.rate_per_minute))
    }

    fn apply_envelope(router: Router) -> Router {
        router.layer(from_fn(envelope::apply_envelope::<Context>)).layer(from_fn(unify_prefixes))
    }
}

/// Makes `/identity/verify` and `/v1/identity/verify` one endpoint. Sets the original URI to the
/// path without the prefix, which the router has stripped, so that the inner layers see the same
/// path. These include the idempotency layer with its scopes and fingerprints.
async fn unify_prefixes(mut request: Request, next: Next) -> Response {
    let uri = OriginalUri(request.uri().clone());
    request.extensions_mut().insert(uri);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_key_determines_its_environment() {
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
