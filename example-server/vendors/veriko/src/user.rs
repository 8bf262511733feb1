//! The callers of this API.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use idempotency_layer::{Contract, Scope};
use jiff::Timestamp;

use super::envelope::Context;
use super::model::Caps;
use crate::config;
use crate::config::DEFAULTS;
use platform::account::{AccountPlan, KeyOwner, Permission};
use platform::api_key::{ApiKey, Environment, KeyFormat};
use platform::bucket::Bucket;
use platform::config::ConfigFile;
use platform::envelope;
use platform::rate_limit_headers::{RateLimitHeaders, Reset, Sent};
use platform::vendor::{Caller, Vendor};

/// `validations:create`
pub(super) const VALIDATE: Permission = Permission::named("validations:create");
/// `validations:update`
pub(super) const UPDATE: Permission = Permission::named("validations:update");
/// `validations_ocr:create`
pub(super) const VALIDATE_OCR: Permission = Permission::named("validations_ocr:create");
/// `webhooks:read`
pub(super) const READ_WEBHOOKS: Permission = Permission::named("webhooks:read");
/// `webhooks:create`
pub(super) const CREATE_WEBHOOKS: Permission = Permission::named("webhooks:create");
/// `webhooks:update`
pub(super) const UPDATE_WEBHOOKS: Permission = Permission::named("webhooks:update");
/// `webhooks:delete`
pub(super) const DELETE_WEBHOOKS: Permission = Permission::named("webhooks:delete");

/// The API with the limits of its plans.
#[derive(Debug, Clone)]
pub struct Veriko(pub(crate) Arc<config::Veriko>);

impl Veriko {
    /// Creates the API with the default configuration.
    pub fn defaults() -> Self {
        let config = ConfigFile::read(None, &[DEFAULTS]).and_then(|file| file.section(Self::NAME));
        Self(Arc::new(config.expect("the defaults are valid")))
    }
}

/// An account, reached with one of its keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct User {
    owner: Arc<KeyOwner>,
    terms: Arc<config::PlanTerms>,
    bucket: Arc<Bucket>,
}

impl User {
    /// Returns the account id.
    pub(crate) fn id(&self) -> &str {
        &self.owner.account
    }

    /// Returns the plan's limits for retry policies.
    pub(crate) fn caps(&self) -> &Caps {
        &self.terms.caps
    }

    /// Returns the number of validations granted in a month.
    pub(crate) fn monthly_quota(&self) -> u32 {
        self.terms.monthly_quota
    }

    pub(crate) fn plan(&self) -> AccountPlan {
        self.owner.plan
    }

    /// Returns when the account was created. A demo account has no such time.
    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        self.owner.created_at
    }

    /// Returns the names of the key's permissions, sorted.
    pub(crate) fn permissions(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.owner.permissions.iter().map(|held| held.as_str()).collect();
        names.sort_unstable();
        names
    }
}

impl Caller for User {
    fn scope(&self) -> Scope {
        Scope::of(Veriko::NAME).and(self.id())
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

impl Vendor for Veriko {
    const NAME: &'static str = "veriko";
    /// Either prefix, which identifies the issuer, and 64 hexadecimal digits, which are the secret.
    const KEY_FORMAT: KeyFormat = KeyFormat {
        prefixes: &[("mxcep_", Environment::Live), ("veriko_", Environment::Live)],
        is_secret: |secret| secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()),
    };
    const PERMISSIONS: &'static [Permission] =
        &[VALIDATE, UPDATE, VALIDATE_OCR, READ_WEBHOOKS, CREATE_WEBHOOKS, UPDATE_WEBHOOKS, DELETE_WEBHOOKS];
    const RATE_LIMIT_HEADERS: RateLimitHeaders =
        RateLimitHeaders { sent: Sent::OnSuccess, reset: Reset::EpochSeconds, window: false };

    /// Each webhook endpoint has a secret of its own instead.
    const HAS_SIGNING_SECRET: bool = false;

    type User = User;

    fn user(&self, owner: KeyOwner) -> User {
        let terms = Arc::clone(self.0.terms(owner.plan));
        User { bucket: Arc::new(Bucket::per_minute(terms.rate_per_minute)), owner: Arc::new(owner), terms }
    }

    fn demo(&self) -> Vec<(ApiKey, KeyOwner)> {
        let accounts = [
            ("1", "demo-pro", AccountPlan::Pro, Self::PERMISSIONS),
            ("2", "demo-basic", AccountPlan::Basic, Self::PERMISSIONS),
            ("3", "demo-free", AccountPlan::Free, Self::PERMISSIONS),
            ("4", "demo-readonly", AccountPlan::Basic, &[READ_WEBHOOKS]),
        ];
        let owner = |(digit, account, plan, permissions): (&str, &str, AccountPlan, &[Permission])| {
            let key = ApiKey::parse(&Self::KEY_FORMAT, &format!("mxcep_{}", digit.repeat(64)))
                .expect("a valid key");
            (key.clone(), KeyOwner::of_demo(account, plan, permissions, &key))
        };
        accounts.into_iter().map(owner).collect()
    }

    fn contract(&self) -> Contract {
        Contract::veriko()
    }

    fn apply_envelope(router: Router) -> Router {
        router.layer(from_fn(envelope::apply_envelope::<Context>))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_only_account_may_neither_create_nor_update() {
        let vendor = Veriko(Arc::new(config::tests::load("").unwrap()));
        let may: Vec<_> = vendor
            .demo()
            .into_iter()
            .map(|(_, owner)| vendor.user(owner))
            .map(|user| (user.id().to_owned(), user.may(VALIDATE), user.may(UPDATE)))
            .collect();
        assert!(may.contains(&("demo-pro".to_owned(), true, true)), "{may:?}");
        assert!(may.contains(&("demo-readonly".to_owned(), false, false)), "{may:?}");
    }
}
