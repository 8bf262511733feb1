//! Who calls this API.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use idempotency_layer::{Contract, Scope};
use jiff::Timestamp;

use super::envelope::Context;
use super::model::Caps;
use crate::accounts::{ApiKey, Environment, Holder, KeyForm, Permission, Plan};
use crate::config;
use crate::frame;
use crate::rate_limit::{Bucket, Reset, Stated, Style};
use crate::vendor::{Caller, Vendor};

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

/// The API, with what its plans grant.
#[derive(Debug)]
pub(crate) struct Veriko(pub(crate) Arc<config::Veriko>);

/// An account, reached with one of its keys. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct User {
    holder: Arc<Holder>,
    terms: Arc<config::PlanTerms>,
    bucket: Arc<Bucket>,
}

impl User {
    /// What the account is known by, everywhere.
    pub(crate) fn id(&self) -> &str {
        &self.holder.account
    }

    /// What its plan lets a retry policy ask for.
    pub(crate) fn caps(&self) -> &Caps {
        &self.terms.caps
    }

    /// How many validations it is granted in a month.
    pub(crate) fn monthly_quota(&self) -> u32 {
        self.terms.monthly_quota
    }

    pub(crate) fn plan(&self) -> Plan {
        self.holder.plan
    }

    /// When the account was made; those of the demo never were.
    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        self.holder.created_at
    }

    /// What the key may, by name and in their order.
    pub(crate) fn permissions(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.holder.permissions.iter().map(|held| held.as_str()).collect();
        names.sort_unstable();
        names
    }
}

impl Caller for User {
    fn scope(&self) -> Scope {
        Scope::of(Veriko::NAME).and(self.id())
    }

    fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn may(&self, permission: Permission) -> bool {
        self.holder.permissions.contains(&permission)
    }
}

impl Vendor for Veriko {
    const NAME: &'static str = "veriko";
    /// 64 hexadecimal digits behind either prefix: it says who issued the key, the digits are the secret.
    const KEYS: KeyForm = KeyForm {
        prefixes: &[("mxcep_", Environment::Live), ("veriko_", Environment::Live)],
        is_secret: |secret| secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()),
    };
    const PERMISSIONS: &'static [Permission] =
        &[VALIDATE, UPDATE, VALIDATE_OCR, READ_WEBHOOKS, CREATE_WEBHOOKS, UPDATE_WEBHOOKS, DELETE_WEBHOOKS];
    const NUMBERS: Style = Style { stated: Stated::OnSuccess, reset: Reset::EpochSeconds, window: false };

    type User = User;

    fn user(&self, holder: Holder) -> User {
        let terms = Arc::clone(self.0.terms(holder.plan));
        User { bucket: Arc::new(Bucket::per_minute(terms.rate_per_minute)), holder: Arc::new(holder), terms }
    }

    fn demo(&self) -> Vec<(ApiKey, Holder)> {
        let accounts = [
            ("1", "demo-pro", Plan::Pro, Self::PERMISSIONS),
            ("2", "demo-basic", Plan::Basic, Self::PERMISSIONS),
            ("3", "demo-free", Plan::Free, Self::PERMISSIONS),
            ("4", "demo-readonly", Plan::Basic, &[READ_WEBHOOKS]),
        ];
        let holder = |(digit, account, plan, permissions): (&str, &str, Plan, &[Permission])| {
            let key = ApiKey::parse::<Self>(&format!("mxcep_{}", digit.repeat(64))).expect("a key");
            (key.clone(), Holder::of_demo(account, plan, permissions, &key))
        };
        accounts.into_iter().map(holder).collect()
    }

    fn contract(&self) -> Contract {
        Contract::veriko()
    }

    fn frame(router: Router) -> Router {
        router.layer(from_fn(frame::envelop::<Context>))
    }
}
