//! What operators do with keys: list them, revoke them, replace them.

use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::api::Definition;
use crate::api_key::{ApiKey, Environment};
use crate::clock;
use crate::db::accounts::{NewKey, create_key};
use crate::db::keys::{self, ListedKey};
use crate::db::{Database, Transaction};

/// Returns every key, the oldest first.
///
/// # Errors
///
/// If the database fails.
pub async fn list(database: &Database) -> sqlx::Result<Vec<ListedKey>> {
    let mut reader = database.read().await?;
    keys::list(reader.connection()).await
}

/// A line of `keys list`.
impl fmt::Display for ListedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, api, account, plan, created_at, revoked_at } = self;
        let made = Timestamp::from_second(created_at.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH);
        let state = if revoked_at.is_some() { "revoked" } else { "active" };
        write!(f, "{id} {api} {account} {plan} {made} {state}")
    }
}

/// Revokes a key. Every process refuses it within five seconds. Returns `false` if it was revoked already.
///
/// # Errors
/// There is no such key, or the database fails.
pub async fn revoke(database: &Database, id: &str) -> Result<bool, KeyError> {
    let mut transaction = database.begin().await?;
    let revoked = keys::revoke(transaction.connection(), id, clock::epoch_millis()).await?;
    if revoked.is_none() && keys::api_of(transaction.connection(), id).await?.is_none() {
        return Err(KeyError::unknown(id));
    }
    transaction.commit().await?;
    Ok(revoked.is_some())
}

/// Returns the API of a key.
///
/// # Errors
/// There is no such key, or the database fails.
pub async fn api_of(database: &Database, id: &str) -> Result<String, KeyError> {
    let mut reader = database.read().await?;
    keys::api_of(reader.connection(), id).await?.ok_or_else(|| KeyError::unknown(id))
}

/// A key that replaces another once this is [committed](Self::commit); dropped, the other stays.
#[derive(Debug)]
pub struct Rotation {
    transaction: Transaction,
    /// What the new key is called by.
    pub id: String,
    pub key: SecretString,
}

impl Rotation {
    /// Makes a key with the account and permissions of another, which it revokes. `environment` is asked for a key whose
    /// environment was not recorded.
    ///
    /// # Errors
    /// There is no such key of this API, it is revoked, it is not known whether it is a test key, or the database fails.
    pub async fn begin(
        database: &Database,
        api: &Definition,
        id: &str,
        environment: Option<Environment>,
    ) -> Result<Self, KeyError> {
        let now = clock::epoch_millis();
        let mut transaction = database.begin().await?;
        let old = keys::revoke(transaction.connection(), id, now).await?;
        let old = old.filter(|old| old.api == api.name).ok_or_else(|| KeyError::Revoked(id.to_owned()))?;
        let recorded = old.environment.as_deref().and_then(|environment| environment.parse().ok());
        let environment =
            recorded.or(environment).ok_or_else(|| KeyError::UnknownEnvironment(id.to_owned()))?;
        let (key, text) = ApiKey::random(&api.key_format, environment);
        let (id, hash) = (key.id(), key.hash());
        let new = NewKey {
            api: api.name,
            account: &old.account,
            // Of an account that is there, its own.
            plan: "",
            id: &id,
            environment: key.environment().as_str(),
            hash: &hash,
            permissions: &old.permissions,
            now,
        };
        create_key(transaction.connection(), &new).await?;
        Ok(Self { transaction, id, key: text })
    }

    /// From here on the new key is valid and the old one revoked.
    ///
    /// # Errors
    /// The database fails; it is not known then whether that took effect.
    pub async fn commit(self) -> Result<(), KeyError> {
        Ok(self.transaction.commit().await?)
    }
}

/// Why a key is not revoked, or not replaced.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("there is no key `{0}`: `keys list` lists those there are")]
    Unknown(String),
    #[error("key `{0}` is revoked: make another one with `keys create`")]
    Revoked(String),
    #[error(
        "key `{0}` was made by an earlier version, which did not record whether it is a test key: give --test or --live"
    )]
    UnknownEnvironment(String),
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl KeyError {
    fn unknown(id: &str) -> Self {
        Self::Unknown(id.to_owned())
    }
}
