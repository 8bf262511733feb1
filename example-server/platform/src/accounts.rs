//! The accounts of an API, found by key.

use std::collections::HashMap;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use moka::future::Cache;

use crate::account::{KeyOwner, Permission, Plan};
use crate::api_key::ApiKey;
use crate::db::{self, Database};
use crate::rate_limit_headers::insert_rate_limit_headers;
use crate::vendor::Vendor;

/// The accounts of one API, found by key.
///
/// Keys are held as SHA-256 only. They are 256 random bits, so a plain hash is enough, and since the lookup is by that
/// hash no comparison of secrets takes place whose time could tell anything.
#[derive(Debug)]
pub struct Accounts<V: Vendor> {
    vendor: V,
    /// Accounts whose keys are public. They are in no database: one that was served with them once can be served to the
    /// public later.
    demo: HashMap<ApiKey, V::User>,
    database: Database,
    /// Keys that were found. Who was not seen for a while is forgotten: by then the bucket would be full again anyway.
    seen: Cache<ApiKey, V::User>,
}

/// A bucket fills up within a minute.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
const SEEN_AT_MOST: u64 = 100_000;

impl<V: Vendor> Accounts<V> {
    /// The accounts of the database, and those of `--demo` where it was asked for.
    pub fn new(vendor: V, database: Database, demo: bool) -> Self {
        let public = if demo { vendor.demo() } else { Vec::new() };
        Self {
            demo: public.into_iter().map(|(key, holder)| (key, vendor.user(holder))).collect(),
            vendor,
            database,
            seen: Cache::builder().max_capacity(SEEN_AT_MOST).time_to_idle(FORGOTTEN_AFTER).build(),
        }
    }

    /// The bare refusal of who is nobody, or may be anybody.
    pub fn refuse(&self, refusal: impl IntoResponse) -> Response {
        let mut response = refusal.into_response();
        if let Some(bucket) = self.vendor.anonymous_bucket() {
            insert_rate_limit_headers(V::RATE_LIMIT_HEADERS, &bucket, response.headers_mut());
        }
        response
    }

    /// Whose key this is.
    pub async fn find(&self, key: &ApiKey) -> sqlx::Result<Option<V::User>> {
        if let Some(user) = self.demo.get(key) {
            return Ok(Some(user.clone()));
        }
        if let Some(user) = self.seen.get(key).await {
            return Ok(Some(user));
        }
        let mut reader = self.database.read().await?;
        let owner = db::accounts::owner_of(reader.connection(), V::NAME, &key.hash()).await?;
        let Some(owner) = owner else { return Ok(None) };
        let user = self.vendor.user(KeyOwner {
            account: owner.account,
            // Only what this program writes is there; a plan of a later version gets the least.
            plan: owner.plan.parse().unwrap_or(Plan::Free),
            created_at: Timestamp::from_millisecond(owner.created_at).ok(),
            environment: key.environment(),
            permissions: Permission::of_list(&owner.permissions, V::PERMISSIONS),
            key_hash: key.hash(),
        });
        // Two first requests at once are one user, with one bucket.
        Ok(Some(self.seen.entry(key.clone()).or_insert(user).await.into_value()))
    }
}

/// Returns whether the database has no key of any API.
pub async fn has_no_keys(database: &Database) -> sqlx::Result<bool> {
    let mut reader = database.read().await?;
    Ok(!db::accounts::any(reader.connection()).await?)
}

#[cfg(test)]
mod tests;
