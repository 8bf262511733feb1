//! Management of API keys: operators create, list, revoke and rotate them.

mod manage;

use secrecy::SecretString;

use crate::account::{AccountPlan, Permission};
use crate::api::Definition;
use crate::api_key::{ApiKey, Environment};
use crate::clock;
use crate::db::{self, Database, NewKey};

pub use manage::{KeyError, Rotation, api_of, list, revoke};

/// The properties of a key to create.
#[derive(Debug)]
pub struct NewApiKey<'a> {
    pub account: &'a str,
    /// The plan of the account. An existing account must have the same.
    pub plan: AccountPlan,
    /// The names of the permissions. If empty, the key gets every permission of the API.
    pub permissions: &'a [String],
    pub environment: Environment,
}

/// Creates a key, and its account if there is none. Returns the key's id and the key. The key
/// itself is not stored.
///
/// # Errors
///
/// If the account is on another plan, the API has no such permission, or the database fails.
pub async fn create_key(
    database: &Database,
    api: &Definition,
    asked: &NewApiKey<'_>,
) -> Result<(String, SecretString), CreateKeyError> {
    let mut permissions = Vec::new();
    for name in asked.permissions {
        let known = api.permissions.iter().find(|known| known.as_str() == name);
        permissions.push(*known.ok_or_else(|| CreateKeyError::no_permission(api, name))?);
    }
    if asked.permissions.is_empty() {
        permissions = api.permissions.to_vec();
    }
    let (key, text) = ApiKey::random(&api.key_format, asked.environment);
    let id = key.id();
    let new = NewKey {
        api: api.name,
        account: asked.account,
        plan: asked.plan.as_str(),
        id: &id,
        environment: key.environment().as_str(),
        hash: &key.hash(),
        permissions: &Permission::to_list(&permissions),
        now: clock::epoch_millis(),
    };
    let mut transaction = database.begin().await?;
    db::accounts::create_key(transaction.connection(), &new).await?;
    match db::accounts::plan_of(transaction.connection(), asked.account).await? {
        Some(plan) if plan != new.plan => {
            return Err(CreateKeyError::OtherPlan { account: asked.account.to_owned(), plan });
        }
        _ => {}
    }
    transaction.commit().await?;
    Ok((id, text))
}

/// An error of creating a key.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    #[error("account `{account}` is on plan `{plan}`: use --plan {plan} to create another key for it")]
    OtherPlan { account: String, plan: String },
    #[error("{api} has no permission `{asked}`: expected one of {known}")]
    NoPermission { api: &'static str, asked: String, known: String },
    #[error("could not create the key: {0}")]
    Database(#[from] sqlx::Error),
}

impl CreateKeyError {
    fn no_permission(api: &Definition, asked: &str) -> Self {
        let known: Vec<_> = api.permissions.iter().map(|known| known.as_str()).collect();
        Self::NoPermission { api: api.name, asked: asked.to_owned(), known: known.join(", ") }
    }
}
