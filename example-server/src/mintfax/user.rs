//! Who calls this API.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use idempotency_layer::{Contract, Scope};

use super::config::Config;
use super::frame::{self, Context};
use crate::accounts::{ApiKey, Environment, Holder, KeyForm, Permission, Plan};
use crate::frame::envelop;
use crate::owner::Owner;
use crate::rate_limit::{Bucket, Reset, Stated, Style};
use crate::vendor::{Caller, Vendor};

/// The API, with what its keys get.
#[derive(Debug)]
pub(crate) struct Mintfax(pub(crate) Config);

/// An account in one of its environments, reached with a key of it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct User {
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

    fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Keys of this API may do everything.
    fn may(&self, _: Permission) -> bool {
        true
    }
}

impl Vendor for Mintfax {
    const NAME: &'static str = "mintfax";
    const KEYS: KeyForm = KeyForm {
        prefixes: &[("mfx_test_", Environment::Test), ("mfx_live_", Environment::Live)],
        is_secret: |secret| {
            (8..=64).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_alphanumeric())
        },
    };
    const PERMISSIONS: &'static [Permission] = &[];
    const NUMBERS: Style = Style { stated: Stated::Always, reset: Reset::SecondsLeft, window: false };

    type User = User;

    fn user(&self, holder: Holder) -> User {
        User {
            owner: Arc::new(Owner { account: holder.account, environment: holder.environment }),
            bucket: Arc::new(Bucket::per_minute(self.0.rate_per_minute)),
        }
    }

    fn demo(&self) -> Vec<(ApiKey, Holder)> {
        let keys = [
            ("mfx_test_abc123def456", "demo"),
            ("mfx_live_abc123def456", "demo"),
            ("mfx_test_other0account1", "demo-other"),
        ];
        let holder = |(text, account): (&str, &str)| {
            let key = ApiKey::parse::<Self>(text).expect("a key");
            (key.clone(), Holder::of_demo(account, Plan::Pro, &[], &key))
        };
        keys.into_iter().map(holder).collect()
    }

    fn contract(&self) -> Contract {
        Contract::mintfax()
    }

    fn nobody(&self) -> Option<Bucket> {
        Some(Bucket::per_minute(self.0.rate_per_minute))
    }

    fn frame(router: Router) -> Router {
        router.layer(from_fn(envelop::<Context>)).layer(from_fn(frame::echo_key))
    }
}
