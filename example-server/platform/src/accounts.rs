//! The accounts of an API, looked up by key.

mod key_cache;

use std::collections::HashMap;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use self::key_cache::KeyCache;
use crate::account::{AccountPlan, KeyOwner, Permission};
use crate::api_key::ApiKey;
use crate::db::accounts::KeyRow;
use crate::db::{self, Database};
use crate::rate_limit_headers::insert_rate_limit_headers;
use crate::vendor::Vendor;

/// The accounts of one API, looked up by key.
///
/// Keys are stored as SHA-256 hashes only. They have 256 random bits, so a plain hash is enough.
/// The lookup is by hash and never compares secrets, so its timing reveals nothing about them.
#[derive(Debug)]
pub struct Accounts<V: Vendor> {
    vendor: V,
    /// Accounts whose keys are public. They are not in the database, which may be used in
    /// production later.
    demo: HashMap<ApiKey, V::User>,
    database: Database,
    /// The keys that were looked up recently.
    keys: KeyCache<V::User>,
}

impl<V: Vendor> Accounts<V> {
    /// Creates the lookup of the accounts in the database and, if `demo`, the demo accounts.
    pub fn new(vendor: V, database: Database, demo: bool) -> Self {
        let public = if demo { vendor.demo() } else { Vec::new() };
        Self {
            demo: public.into_iter().map(|(key, owner)| (key, vendor.user(owner))).collect(),
            vendor,
            database,
            keys: KeyCache::new(key_cache::FRESH_FOR),
        }
    }

    /// Returns the refusal of an unauthenticated caller, with rate limit headers if the API sends
    /// them.
    pub fn refuse(&self, refusal: impl IntoResponse) -> Response {
        let mut response = refusal.into_response();
        if let Some(bucket) = self.vendor.anonymous_bucket() {
            insert_rate_limit_headers(V::RATE_LIMIT_HEADERS, &bucket, response.headers_mut());
        }
        response
    }

    /// Returns the user of a key, or `None` if there is no such key or it was revoked more than a
    /// few seconds ago.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub async fn find(&self, key: &ApiKey) -> Result<Option<V::User>, Arc<sqlx::Error>> {
        if let Some(user) = self.demo.get(key) {
            return Ok(Some(user.clone()));
        }
        let read = async {
            metrics::counter!("api_key_lookups_total", "api" => V::NAME).increment(1);
            let mut reader = self.database.read().await?;
            db::accounts::owner_of(reader.connection(), V::NAME, &key.hash()).await
        };
        self.keys.get_or_read(key, read, |row| self.user(key, row)).await
    }

    fn user(&self, key: &ApiKey, row: &KeyRow) -> V::User {
        self.vendor.user(KeyOwner {
            account: row.account.clone(),
            // An unknown plan comes from a later version of this program. Use the lowest.
            plan: row.plan.parse().unwrap_or(AccountPlan::Free),
            created_at: Timestamp::from_millisecond(row.created_at).ok(),
            environment: key.environment(),
            permissions: Permission::of_list(&row.permissions, V::PERMISSIONS),
            key_hash: key.hash(),
        })
    }
}

/// Returns whether the database has no active key of any API.
pub async fn has_no_keys(database: &Database) -> sqlx::Result<bool> {
    let mut reader = database.read().await?;
    Ok(!db::accounts::any(reader.connection()).await?)
}

#[cfg(test)]
mod tests;
