//! API keys, as operators make, list, revoke and rotate them.

mod manage;

use secrecy::SecretString;

use crate::account::{AccountPlan, Permission};
use crate::api::Definition;
use crate::api_key::{ApiKey, Environment};
use crate::clock;
use crate::db::{self, Database, NewKey};

pub use manage::{KeyError, Rotation, api_of, list, revoke};

/// A key to be made.
#[derive(Debug)]
pub struct NewApiKey<'a> {
    pub account: &'a str,
    /// Of the account, if it is new.
    pub plan: AccountPlan,
    /// By name; none: all that the API has.
    pub permissions: &'a [String],
    pub environment: Environment,
}

/// Makes a key, and its account if that is new. Returns the key's id, and the key, which is not kept anywhere.
///
/// # Errors
/// The account is on another plan, the API has no such permission, or the database fails.
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

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    #[error("account `{account}` is on plan `{plan}`: give --plan {plan} to make another key of it")]
    OtherPlan { account: String, plan: String },
    #[error("{api} has no permission `{asked}`: expected one of {known}")]
    NoPermission { api: &'static str, asked: String, known: String },
    #[error("the key could not be made: {0}")]
    Database(#[from] sqlx::Error),
}

impl CreateKeyError {
    fn no_permission(api: &Definition, asked: &str) -> Self {
        let known: Vec<_> = api.permissions.iter().map(|known| known.as_str()).collect();
        Self::NoPermission { api: api.name, asked: asked.to_owned(), known: known.join(", ") }
    }
}
