//! The callers of this API.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use idempotency_layer::{Contract, Scope};

use super::config::Config;
use super::envelope::{self, Context};
use platform::account::{AccountPlan, KeyOwner, Permission};
use platform::api_key::{ApiKey, Environment, KeyFormat};
use platform::bucket::Bucket;
use platform::envelope::apply_envelope;
use platform::owner::Owner;
use platform::rate_limit_headers::{RateLimitHeaders, Reset, Sent};
use platform::vendor::{Caller, Vendor};

/// The API with its configuration.
#[derive(Debug, Clone)]
pub struct Mintfax(pub(crate) Config);

/// An account in one environment, identified by its API key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct User {
    owner: Arc<Owner>,
    bucket: Arc<Bucket>,
}

impl User {
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl Caller for User {
    fn scope(&self) -> Scope {
        Scope::of(Mintfax::NAME).and(&self.owner.account).and(self.owner.environment.as_str())
    }

    fn account(&self) -> &String {
        &self.owner.account
    }

    fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Every key of this API has all permissions.
    fn may(&self, _: Permission) -> bool {
        true
    }
}

impl Vendor for Mintfax {
    const NAME: &'static str = "mintfax";
    const KEY_FORMAT: KeyFormat = KeyFormat {
        prefixes: &[("mfx_test_", Environment::Test), ("mfx_live_", Environment::Live)],
        is_secret: |secret| {
            (8..=64).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_alphanumeric())
        },
    };
    const PERMISSIONS: &'static [Permission] = &[];
    const RATE_LIMIT_HEADERS: RateLimitHeaders =
        RateLimitHeaders { sent: Sent::Always, reset: Reset::SecondsLeft, window: false };

    type User = User;

    fn user(&self, owner: KeyOwner) -> User {
        User {
            owner: Arc::new(Owner { account: owner.account, environment: owner.environment }),
            bucket: Arc::new(Bucket::per_minute(self.0.rate_per_minute)),
        }
    }

    fn demo(&self) -> Vec<(ApiKey, KeyOwner)> {
        let keys = [
            ("mfx_test_abc123def456", "demo"),
            ("mfx_live_abc123def456", "demo"),
            ("mfx_test_other0account1", "demo-other"),
        ];
        let owner = |(text, account): (&str, &str)| {
            let key = ApiKey::parse(&Self::KEY_FORMAT, text).expect("a key");
            (key.clone(), KeyOwner::of_demo(account, AccountPlan::Pro, &[], &key))
        };
        keys.into_iter().map(owner).collect()
    }

    fn contract(&self) -> Contract {
        Contract::mintfax()
    }

    fn anonymous_bucket(&self) -> Option<Bucket> {
        Some(Bucket::per_minute(self.0.rate_per_minute))
    }

    fn apply_envelope(router: Router) -> Router {
        router.layer(from_fn(apply_envelope::<Context>)).layer(from_fn(envelope::echo_key))
    }
}
