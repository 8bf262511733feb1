//! The signing secrets of callbacks. Each owner has one secret, which all APIs share.

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::SecretString;

use crate::api_key::Environment;
use crate::db::Database;
use crate::encryption::{SealError, Sealer, random};
use crate::owner::Owner;
use crate::webhooks::store::secrets;

/// The signing secrets of all owners.
#[derive(Debug)]
pub(super) struct Secrets {
    sealer: Arc<Sealer>,
    /// The public secrets of `--demo`.
    demo: HashMap<(&'static str, Environment), &'static str>,
}

/// An error of loading or creating a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The public secret of a `--demo` account in one environment.
pub type DemoSecret = ((&'static str, Environment), &'static str);

impl Secrets {
    pub(super) fn new(sealer: Arc<Sealer>, demo: &[DemoSecret]) -> Self {
        Self { sealer, demo: demo.iter().copied().collect() }
    }

    /// Returns the signing secret of an owner, or `None` if there is none.
    pub(super) async fn of(
        &self,
        database: &Database,
        owner: &Owner,
    ) -> Result<Option<SecretString>, SecretError> {
        if let Some(public) = self.demo.get(&(owner.account.as_str(), owner.environment)) {
            return Ok(Some((*public).into()));
        }
        let mut reader = database.read().await?;
        let sealed = secrets::load(reader.connection(), owner).await?;
        Ok(sealed.map(|sealed| open(&self.sealer, owner, &sealed)).transpose()?)
    }

    /// Checks that the configured keys can decrypt the stored secrets.
    ///
    /// # Errors
    ///
    /// If they cannot, or if the database fails.
    pub(super) async fn check(&self, database: &Database) -> Result<(), SecretError> {
        let mut reader = database.read().await?;
        for (owner, sealed) in secrets::one_of_each_key(reader.connection()).await? {
            open(&self.sealer, &owner, &sealed)?;
        }
        Ok(())
    }
}

/// Returns the signing secret of an owner. Creates it if there is none yet.
///
/// # Errors
///
/// If the secret cannot be sealed or opened, or the database fails.
pub async fn signing_secret(
    database: &Database,
    sealer: &Sealer,
    account: &str,
    environment: Environment,
) -> Result<SecretString, SecretError> {
    let owner = Owner { account: account.to_owned(), environment };
    let new = format!("whsec_{}_{}", environment.as_str(), hex::encode(random()));
    let new = sealer.seal(&about(&owner), new.as_bytes())?;
    let mut transaction = database.begin().await?;
    secrets::insert_if_none(transaction.connection(), &owner, &new).await?;
    let kept = secrets::load(transaction.connection(), &owner).await?;
    transaction.commit().await?;
    Ok(open(sealer, &owner, &kept.ok_or(sqlx::Error::RowNotFound)?)?)
}

fn open(sealer: &Sealer, owner: &Owner, kept: &str) -> Result<SecretString, SealError> {
    let opened = sealer.open(&about(owner), kept)?;
    Ok(String::from_utf8(opened).map_err(|_| SealError::Damaged)?.into())
}

/// Returns the sealing context of an owner's secret.
fn about(owner: &Owner) -> String {
    format!("signing secret {} {}", owner.environment.as_str(), owner.account)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn sealer(digit: &str) -> Arc<Sealer> {
        Arc::new(Sealer::new(Some(&digit.repeat(64).into()), None).unwrap())
    }

    #[tokio::test]
    async fn an_owner_has_one_secret_of_their_own() {
        let database = Database::open("sqlite::memory:").await.unwrap();
        let sealer = sealer("1");
        let secret = async |account, environment| {
            let secret = signing_secret(&database, &sealer, account, environment).await.unwrap();
            secret.expose_secret().to_owned()
        };
        let test = secret("acme", Environment::Test).await;
        assert!(test.starts_with("whsec_test_") && test.len() == 75, "{test}");
        assert_eq!(secret("acme", Environment::Test).await, test);
        assert_ne!(secret("acme", Environment::Live).await[11..], test[11..]);
        assert_ne!(secret("other", Environment::Test).await, test);

        let secrets = Secrets::new(Arc::clone(&sealer), &[]);
        let kept = secrets.of(&database, &Owner::test("acme")).await.unwrap().unwrap();
        assert_eq!(kept.expose_secret(), test);
        let live = secret("acme", Environment::Live).await;
        let owner = Owner { account: "acme".into(), environment: Environment::Live };
        let kept = secrets.of(&database, &owner).await.unwrap().unwrap();
        assert_eq!(kept.expose_secret(), live);
        for owner in ["nobody", "demo"] {
            assert!(secrets.of(&database, &Owner::test(owner)).await.unwrap().is_none(), "{owner}");
        }
        let demo = Secrets::new(sealer, &[(("demo", Environment::Test), "whsec_public")]);
        assert!(demo.of(&database, &Owner::test("demo")).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_check_finds_a_secret_that_cannot_be_opened() {
        let database = Database::open("sqlite::memory:").await.unwrap();
        signing_secret(&database, &sealer("1"), "acme", Environment::Test).await.unwrap();
        assert!(Secrets::new(sealer("1"), &[]).check(&database).await.is_ok());
        assert!(Secrets::new(sealer("2"), &[]).check(&database).await.is_err());
    }
}
