//! Who may call: accounts, their plans, and the hashes of their keys.

mod cache;
pub(crate) mod keys;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use self::cache::KeyCache;
use crate::cep::UnknownText;
use crate::clock;
use crate::db::accounts::KeyOwner;
use crate::db::{self, Database, NewKey};
use crate::hex;
use crate::options::KeysCreate;
use crate::rate_limit;
use crate::vendor::Vendor;

/// Whose a key is, and what it may do.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    /// What the account is known by, everywhere.
    pub(crate) account: String,
    pub(crate) plan: Plan,
    /// When the account was made; those of the demo never were.
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) environment: Environment,
    pub(crate) permissions: Vec<Permission>,
    /// Of the key: SHA-256 in hexadecimal digits.
    pub(crate) key_hash: String,
}

impl Holder {
    /// Of a key that is public.
    pub(crate) fn of_demo(account: &str, plan: Plan, permissions: &[Permission], key: &ApiKey) -> Self {
        Self {
            account: account.to_owned(),
            plan,
            created_at: None,
            environment: key.environment,
            permissions: permissions.to_vec(),
            key_hash: key.hash(),
        }
    }
}

/// What an operation may demand of its caller, by the vendor's own name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permission(&'static str);

impl Permission {
    pub(crate) const fn named(name: &'static str) -> Self {
        Self(name)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        self.0
    }

    /// As a column holds them.
    fn to_list(permissions: &[Self]) -> String {
        permissions.iter().map(|permission| permission.0).collect::<Vec<_>>().join(",")
    }

    /// What is not known any more is not granted.
    fn of_list(list: &str, known: &[Self]) -> Vec<Self> {
        known.iter().filter(|known| list.split(',').any(|name| name == known.0)).copied().collect()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Whether a key is for trying things out. What is done in one environment does not exist in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Environment {
    /// `test`
    Test,
    /// `live`
    Live,
}

impl Environment {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

impl FromStr for Environment {
    type Err = UnknownText;

    fn from_str(text: &str) -> Result<Self, UnknownText> {
        [Self::Test, Self::Live]
            .into_iter()
            .find(|environment| environment.as_str() == text)
            .ok_or(UnknownText)
    }
}

/// The plans an account can be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// `free`
    Free,
    /// `basic`
    Basic,
    /// `pro`
    Pro,
}

impl Plan {
    const ALL: [Self; 3] = [Self::Free, Self::Basic, Self::Pro];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Basic => "basic",
            Self::Pro => "pro",
        }
    }

    /// What people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Free => "Free",
            Self::Basic => "Basic",
            Self::Pro => "Pro",
        }
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|plan| plan.as_str() == text)
            .ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// The accounts of one API, found by key.
///
/// Keys are held as SHA-256 only. They are 256 random bits, so a plain hash is enough, and since the lookup is by that
/// hash no comparison of secrets takes place whose time could tell anything.
#[derive(Debug)]
pub(crate) struct Accounts<V: Vendor> {
    vendor: V,
    /// Accounts whose keys are public. They are in no database: one that was served with them once can be served to the
    /// public later.
    demo: HashMap<ApiKey, V::User>,
    database: Database,
    /// The keys that were looked up lately.
    keys: KeyCache<V::User>,
}

impl<V: Vendor> Accounts<V> {
    /// The accounts of the database, and those of `--demo` where it was asked for.
    pub(crate) fn new(vendor: V, database: Database, demo: bool) -> Self {
        let public = if demo { vendor.demo() } else { Vec::new() };
        Self {
            demo: public.into_iter().map(|(key, holder)| (key, vendor.user(holder))).collect(),
            vendor,
            database,
            keys: KeyCache::new(cache::FRESH_FOR),
        }
    }

    /// The bare refusal of who is nobody, or may be anybody.
    pub(crate) fn refuse(&self, refusal: impl IntoResponse) -> Response {
        let mut response = refusal.into_response();
        if let Some(bucket) = self.vendor.nobody() {
            rate_limit::state(V::NUMBERS, &bucket, response.headers_mut());
        }
        response
    }

    /// Returns the user of a key, and `None` if there is no such key, or it was revoked more than a few seconds ago.
    pub(crate) async fn find(&self, key: &ApiKey) -> Result<Option<V::User>, Arc<sqlx::Error>> {
        if let Some(user) = self.demo.get(key) {
            return Ok(Some(user.clone()));
        }
        let read = async {
            metrics::counter!("api_key_lookups_total", "api" => V::NAME).increment(1);
            let mut reader = self.database.read().await?;
            db::accounts::owner_of(reader.connection(), V::NAME, &key.hash()).await
        };
        self.keys.get_or_read(key, read, |owner| self.user(key, owner)).await
    }

    fn user(&self, key: &ApiKey, owner: &KeyOwner) -> V::User {
        self.vendor.user(Holder {
            account: owner.account.clone(),
            // Only what this program writes is there; a plan of a later version gets the least.
            plan: owner.plan.parse().unwrap_or(Plan::Free),
            created_at: Timestamp::from_millisecond(owner.created_at).ok(),
            environment: key.environment,
            permissions: Permission::of_list(&owner.permissions, V::PERMISSIONS),
            key_hash: key.hash(),
        })
    }
}

/// Whether nobody can call anything.
pub(crate) async fn are_none(database: &Database) -> sqlx::Result<bool> {
    let mut reader = database.read().await?;
    Ok(!db::accounts::any(reader.connection()).await?)
}

/// Makes a key, and its account where that is new. Returns the key's id, and the key, which is not kept anywhere.
///
/// # Errors
/// The account is on another plan, the API has no such permission, or the database fails.
pub(crate) async fn create_key<V: Vendor>(
    database: &Database,
    asked: &KeysCreate,
) -> Result<(String, SecretString), CreateKeyError> {
    let mut permissions = Vec::new();
    for name in &asked.permission {
        let known = V::PERMISSIONS.iter().find(|known| known.as_str() == name);
        permissions.push(*known.ok_or_else(|| CreateKeyError::no_permission::<V>(name))?);
    }
    if asked.permission.is_empty() {
        permissions = V::PERMISSIONS.to_vec();
    }
    let (key, text) = ApiKey::random::<V>(asked.environment());
    let id = key.id();
    let new = NewKey {
        api: V::NAME,
        account: &asked.account,
        plan: asked.plan.as_str(),
        id: &id,
        environment: key.environment.as_str(),
        hash: &key.hash(),
        permissions: &Permission::to_list(&permissions),
        now: clock::epoch_millis(),
    };
    let mut transaction = database.begin().await?;
    db::accounts::create_key(transaction.connection(), &new).await?;
    match db::accounts::plan_of(transaction.connection(), &asked.account).await? {
        Some(plan) if plan != new.plan => {
            return Err(CreateKeyError::OtherPlan { account: asked.account.clone(), plan });
        }
        _ => {}
    }
    transaction.commit().await?;
    Ok((id, text))
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateKeyError {
    #[error("account `{account}` is on plan `{plan}`: give --plan {plan} to make another key of it")]
    OtherPlan { account: String, plan: String },
    #[error("{api} has no permission `{asked}`: expected one of {known}")]
    NoPermission { api: &'static str, asked: String, known: String },
    #[error("the key could not be made: {0}")]
    Database(#[from] sqlx::Error),
}

impl CreateKeyError {
    fn no_permission<V: Vendor>(asked: &str) -> Self {
        let known: Vec<_> = V::PERMISSIONS.iter().map(|known| known.as_str()).collect();
        Self::NoPermission { api: V::NAME, asked: asked.to_owned(), known: known.join(", ") }
    }
}

/// What the keys of an API look like: a prefix, which tells the environment, and a secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyForm {
    /// Of two with one environment, both name the same key; new keys have the first.
    pub(crate) prefixes: &'static [(&'static str, Environment)],
    /// Whether this can be the secret.
    pub(crate) is_secret: fn(&str) -> bool,
}

/// A key, of which only what finds its holder is kept.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ApiKey {
    hash: [u8; 32],
    environment: Environment,
}

impl ApiKey {
    /// A new key, and how clients send it. Version 4 UUIDs are made of the system's randomness, 122 bits each: three of
    /// them hold more than the 256 bits of a key.
    fn random<V: Vendor>(environment: Environment) -> (Self, SecretString) {
        let mut secret = Sha256::new();
        for _ in 0..3 {
            secret.update(uuid::Uuid::new_v4());
        }
        let text = format!("{}{}", prefix_of::<V>(environment), hex::encode(&secret.finalize()));
        let key = Self::parse::<V>(&text).expect("a new key has the form of keys");
        (key, SecretString::from(text))
    }

    /// Reads a key as clients send it; `None` if it cannot be one.
    pub(crate) fn parse<V: Vendor>(text: &str) -> Option<Self> {
        let form = V::KEYS;
        let (secret, environment) = form
            .prefixes
            .iter()
            .find_map(|(prefix, environment)| Some((text.strip_prefix(prefix)?, *environment)))?;
        if !(form.is_secret)(secret) {
            return None;
        }
        let hash = Sha256::new_with_prefix(prefix_of::<V>(environment)).chain_update(secret).finalize();
        Some(Self { hash: hash.into(), environment })
    }

    /// In hexadecimal digits, as the database has it.
    pub(crate) fn hash(&self) -> String {
        hex::encode(&self.hash)
    }

    /// Returns the id by which operators name the key. It tells nothing of the key.
    fn id(&self) -> String {
        format!("key_{}", hex::encode(&self.hash[..8]))
    }
}

/// The prefix of new keys. An API without test keys has one environment, whatever was asked for.
fn prefix_of<V: Vendor>(environment: Environment) -> &'static str {
    let prefixes = V::KEYS.prefixes;
    let (prefix, _) = prefixes.iter().find(|(_, of)| *of == environment).unwrap_or(&prefixes[0]);
    prefix
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::Config;
    use crate::vendor::Caller;
    use crate::veriko::Veriko;

    const VALIDATE: Permission = Permission::named("validations:create");
    const UPDATE: Permission = Permission::named("validations:update");

    async fn accounts(demo: bool) -> Accounts<Veriko> {
        let database = Database::open("sqlite::memory:").await.unwrap();
        Accounts::new(Veriko(Arc::new(Config::load(None).unwrap().veriko)), database, demo)
    }

    pub(super) fn key(digit: &str) -> ApiKey {
        ApiKey::parse::<Veriko>(&format!("mxcep_{}", digit.repeat(64))).unwrap()
    }

    fn asked(account: &str, plan: Plan, permission: &[Permission]) -> KeysCreate {
        KeysCreate::new(account, plan, permission)
    }

    #[tokio::test]
    async fn a_key_that_was_made_is_found_with_what_it_may() {
        let accounts = accounts(false).await;
        let made =
            create_key::<Veriko>(&accounts.database, &asked("acme", Plan::Basic, &[UPDATE])).await.unwrap();
        let key = ApiKey::parse::<Veriko>(made.1.expose_secret()).unwrap();
        for _ in 0..2 {
            let user = accounts.find(&key).await.unwrap().unwrap();
            assert_eq!((user.id(), user.monthly_quota()), ("acme", 5000));
            assert!(user.may(UPDATE) && !user.may(VALIDATE));
        }
        let all = create_key::<Veriko>(&accounts.database, &asked("acme", Plan::Basic, &[])).await.unwrap();
        let all =
            accounts.find(&ApiKey::parse::<Veriko>(all.1.expose_secret()).unwrap()).await.unwrap().unwrap();
        assert!(Veriko::PERMISSIONS.iter().copied().all(|permission| all.may(permission)));
    }

    #[tokio::test]
    async fn an_account_stays_on_its_plan() {
        let accounts = accounts(false).await;
        create_key::<Veriko>(&accounts.database, &asked("acme", Plan::Basic, &[])).await.unwrap();
        let refused =
            create_key::<Veriko>(&accounts.database, &asked("acme", Plan::Pro, &[])).await.unwrap_err();
        assert!(refused.to_string().contains("`basic`"), "{refused}");
    }

    #[tokio::test]
    async fn one_key_has_one_bucket_however_it_is_found() {
        let accounts = accounts(false).await;
        let made = create_key::<Veriko>(&accounts.database, &asked("acme", Plan::Free, &[])).await.unwrap();
        let key = ApiKey::parse::<Veriko>(made.1.expose_secret()).unwrap();
        let first = accounts.find(&key).await.unwrap().unwrap();
        let second = accounts.find(&key).await.unwrap().unwrap();
        assert!(std::ptr::eq(first.bucket(), second.bucket()));
    }

    #[tokio::test]
    async fn the_public_keys_are_found_in_a_demo_only() {
        assert!(accounts(true).await.find(&key("1")).await.unwrap().is_some());
        assert!(accounts(false).await.find(&key("1")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn both_prefixes_name_the_same_key() {
        let accounts = accounts(true).await;
        for prefix in ["mxcep_", "veriko_"] {
            let key = ApiKey::parse::<Veriko>(&format!("{prefix}{}", "1".repeat(64))).unwrap();
            assert_eq!(accounts.find(&key).await.unwrap().unwrap().id(), "demo-pro");
        }
    }

    #[test]
    fn what_is_not_a_key_is_not_looked_up() {
        let ones = "1".repeat(64);
        for text in ["", "mxcep_", &ones, &format!("mxcep_{ones}1"), &format!("mxcep_{}é", &ones[2..])] {
            assert!(ApiKey::parse::<Veriko>(text).is_none(), "{text}");
        }
    }

    #[test]
    fn debug_output_shows_no_key() {
        let key = ApiKey::parse::<Veriko>(&format!("mxcep_{}", "1".repeat(64))).unwrap();
        assert!(!format!("{key:?}").contains("1111"));
    }

    #[tokio::test]
    async fn the_read_only_account_may_neither_create_nor_update() {
        let accounts = accounts(true).await;
        for (digit, may) in [("1", true), ("4", false)] {
            let user = accounts.find(&key(digit)).await.unwrap().unwrap();
            assert_eq!((user.may(VALIDATE), user.may(UPDATE)), (may, may));
        }
    }
}
