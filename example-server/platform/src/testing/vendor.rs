//! A fictitious vendor, for tests of the middleware stack.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use idempotency_layer::{Contract, Scope};

use crate::account::{AccountPlan, KeyOwner, Permission};
use crate::api::Definition;
use crate::api_key::{ApiKey, Environment, KeyFormat};
use crate::bucket::Bucket;
use crate::rate_limit_headers::{RateLimitHeaders, Reset, Sent};
use crate::vendor::{Caller, Vendor};

/// An API whose keys are `acme_` or `other_` and 64 hexadecimal digits.
#[derive(Debug, Clone)]
pub struct Acme;

/// A caller of the API.
#[derive(Debug, Clone)]
pub struct User {
    pub owner: Arc<KeyOwner>,
    bucket: Arc<Bucket>,
}

impl Acme {
    /// The static definition of the API.
    pub const API: Definition = Definition {
        name: Self::NAME,
        key_format: Self::KEY_FORMAT,
        permissions: Self::PERMISSIONS,
        has_signing_secret: false,
        defaults: "",
        document: || unreachable!("tests do not document it"),
        configure: |_| unreachable!("tests do not serve it"),
    };
    pub const READ: Permission = Permission::named("read");
    pub const WRITE: Permission = Permission::named("write");
}

impl Caller for User {
    fn scope(&self) -> Scope {
        Scope::of(Acme::NAME).and(&self.owner.account)
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

impl Vendor for Acme {
    const NAME: &'static str = "acme";
    const KEY_FORMAT: KeyFormat = KeyFormat {
        prefixes: &[("acme_", Environment::Live), ("other_", Environment::Live)],
        is_secret: |secret| secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()),
    };
    const PERMISSIONS: &'static [Permission] = &[Self::READ, Self::WRITE];
    const RATE_LIMIT_HEADERS: RateLimitHeaders =
        RateLimitHeaders { sent: Sent::OnSuccess, reset: Reset::EpochSeconds, window: false };

    type User = User;

    fn user(&self, owner: KeyOwner) -> User {
        let limit = NonZeroU32::new(60).unwrap_or(NonZeroU32::MIN);
        User { owner: Arc::new(owner), bucket: Arc::new(Bucket::per_minute(limit)) }
    }

    fn demo(&self) -> Vec<(ApiKey, KeyOwner)> {
        let text = format!("acme_{}", "1".repeat(64));
        let key = ApiKey::parse(&Self::KEY_FORMAT, &text).expect("a key");
        let owner = KeyOwner::of_demo("demo", AccountPlan::Pro, Self::PERMISSIONS, &key);
        vec![(key, owner)]
    }

    fn contract(&self) -> Contract {
        Contract::ietf()
    }

    fn apply_envelope(router: Router) -> Router {
        router
    }
}
