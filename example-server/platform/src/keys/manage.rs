//! Operations on existing keys: list, revoke, rotate.

use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::api::Definition;
use crate::api_key::{ApiKey, Environment};
use crate::clock;
use crate::db::accounts::{NewKey, create_key};
use crate::db::keys::{self, ListedKey};
use crate::db::{Database, Transaction};

/// Returns all keys, oldest first.
///
/// # Errors
///
/// If the database fails.
pub async fn list(database: &Database) -> sqlx::Result<Vec<ListedKey>> {
    let mut reader = database.read().await?;
    keys::list(reader.connection()).await
}

/// Formats a line of `keys list`.
impl fmt::Display for ListedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, api, account, plan, created_at, revoked_at } = self;
        let created = Timestamp::from_second(created_at.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH);
        let state = if revoked_at.is_some() { "revoked" } else { "active" };
        write!(f, "{id} {api} {account} {plan} {created} {state}")
    }
}

/// Revokes a key. Every process refuses it within five seconds. Returns `false` if it was already
/// revoked.
///
/// # Errors
///
/// If there is no such key, or the database fails.
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
///
/// If there is no such key, or the database fails.
pub async fn api_of(database: &Database, id: &str) -> Result<String, KeyError> {
    let mut reader = database.read().await?;
    keys::api_of(reader.connection(), id).await?.ok_or_else(|| KeyError::unknown(id))
}

/// A key rotation. [`commit`](Self::commit) makes the new key valid and revokes the old one. If the
/// rotation is dropped, nothing changes.
#[derive(Debug)]
pub struct Rotation {
    transaction: Transaction,
    /// The id of the new key.
    pub id: String,
    pub key: SecretString,
}

impl Rotation {
    /// Creates a key with the account and permissions of key `id`, and revokes that key.
    /// `environment` is used only if the old key has no recorded environment.
    ///
    /// # Errors
    ///
    /// If this API has no such key, if it is already revoked, if its environment is neither
    /// recorded nor given, or if the database fails.
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
            // Ignored, because the account exists.
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

    /// Commits the rotation.
    ///
    /// # Errors
    ///
    /// If the database fails. The rotation may have taken effect nevertheless.
    pub async fn commit(self) -> Result<(), KeyError> {
        Ok(self.transaction.commit().await?)
    }
}

/// An error of managing a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("there is no key `{0}`: use `keys list` to see all keys")]
    Unknown(String),
    #[error("key `{0}` is revoked: create another one with `keys create`")]
    Revoked(String),
    #[error(
        "key `{0}` was created by an earlier version, which did not record whether it is a test key: use --test or --live"
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
