//! Who may call: accounts, their plans, and the hashes of their keys.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::config::Veriko;
use crate::db::{self, Database, NewKey};
use crate::hex;
use crate::options::KeysCreate;
use crate::rate_limit::Bucket;
use crate::veriko::Caps;

/// An account, reached with one of its keys. Cheap to clone; a request carries it in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct User {
    account: Arc<Account>,
    bucket: Arc<Bucket>,
}

impl User {
    /// What the account is known by, everywhere.
    pub(crate) fn id(&self) -> &str {
        &self.account.id
    }

    /// What its plan lets a retry policy ask for.
    pub(crate) fn caps(&self) -> &Caps {
        &self.account.caps
    }

    /// How many validations it is granted in a month.
    pub(crate) fn monthly_quota(&self) -> u32 {
        self.account.monthly_quota
    }

    pub(crate) fn plan(&self) -> Plan {
        self.account.plan
    }

    /// When the account was made; those of the demo never were.
    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        self.account.created_at
    }

    /// What the key may, by name and in their order.
    pub(crate) fn permissions(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.account.permissions.iter().map(|held| held.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The bucket of the key this request came with.
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Whether the key was given this permission.
    pub(crate) fn may(&self, permission: Permission) -> bool {
        self.account.permissions.contains(&permission)
    }
}

/// What an operation may demand of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// `validations:create`
    Validate,
    /// `validations:update`
    Update,
    /// `validations_ocr:create`
    ValidateOcr,
}

impl Permission {
    const ALL: [Self; 3] = [Self::Validate, Self::Update, Self::ValidateOcr];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validations:create",
            Self::Update => "validations:update",
            Self::ValidateOcr => "validations_ocr:create",
        }
    }

    /// As a column holds them.
    fn to_list(permissions: &[Self]) -> String {
        permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(",")
    }

    /// What is not known any more is not granted.
    fn of_list(list: &str) -> Vec<Self> {
        list.split(',').filter_map(|name| name.parse().ok()).collect()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

#[derive(Debug)]
struct Account {
    id: String,
    plan: Plan,
    created_at: Option<Timestamp>,
    caps: Caps,
    monthly_quota: u32,
    permissions: Vec<Permission>,
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

/// Every account, found by key.
///
/// Keys are held as SHA-256 only. They are 256 random bits, so a plain hash is enough, and since the lookup is by that
/// hash no comparison of secrets takes place whose time could tell anything.
#[derive(Debug)]
pub(crate) struct Accounts {
    terms: Arc<Veriko>,
    /// Accounts whose keys are public. They are in no database: one that was served with them once can be served to the
    /// public later.
    demo: HashMap<KeyHash, User>,
    database: Database,
    /// Keys that were found. Who was not seen for a while is forgotten: by then the bucket would be full again anyway.
    seen: Cache<KeyHash, User>,
}

/// A bucket fills up within a minute.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
const SEEN_AT_MOST: u64 = 100_000;

impl Accounts {
    /// The accounts of the database, and those of `--demo` where it was asked for.
    pub(crate) fn new(terms: Arc<Veriko>, database: Database, demo: bool) -> Self {
        let mut accounts = Self {
            terms,
            demo: HashMap::new(),
            database,
            seen: Cache::builder().max_capacity(SEEN_AT_MOST).time_to_idle(FORGOTTEN_AFTER).build(),
        };
        if demo {
            for (digit, id, plan, permissions) in [
                ("1", "demo-pro", Plan::Pro, &Permission::ALL[..]),
                ("2", "demo-basic", Plan::Basic, &Permission::ALL),
                ("3", "demo-free", Plan::Free, &Permission::ALL),
                ("4", "demo-readonly", Plan::Basic, &[]),
            ] {
                let key = ApiKey(SecretString::from(digit.repeat(ApiKey::DIGITS)));
                let user = accounts.user(id.to_owned(), plan, permissions.to_vec(), None);
                accounts.demo.insert(key.hash(), user);
            }
        }
        accounts
    }

    /// Whether nobody can call at all.
    pub(crate) async fn is_empty(&self) -> sqlx::Result<bool> {
        if !self.demo.is_empty() {
            return Ok(false);
        }
        let mut reader = self.database.read().await?;
        Ok(!db::accounts::any(reader.connection()).await?)
    }

    /// Whose key this is.
    pub(crate) async fn find(&self, key: &ApiKey) -> sqlx::Result<Option<User>> {
        let hash = key.hash();
        if let Some(user) = self.demo.get(&hash) {
            return Ok(Some(user.clone()));
        }
        if let Some(user) = self.seen.get(&hash).await {
            return Ok(Some(user));
        }
        let mut reader = self.database.read().await?;
        let Some(owner) = db::accounts::owner_of(reader.connection(), &hash.to_string()).await? else {
            return Ok(None);
        };
        // Only what this program writes is there; a plan of a later version gets the least.
        let plan = owner.plan.parse().unwrap_or(Plan::Free);
        let created_at = Timestamp::from_millisecond(owner.created_at).ok();
        let user = self.user(owner.account, plan, Permission::of_list(&owner.permissions), created_at);
        // Two first requests at once are one user, with one bucket.
        Ok(Some(self.seen.entry(hash).or_insert(user).await.into_value()))
    }

    fn user(
        &self,
        id: String,
        plan: Plan,
        permissions: Vec<Permission>,
        created_at: Option<Timestamp>,
    ) -> User {
        let terms = self.terms.terms(plan);
        let (caps, monthly_quota) = (terms.caps.clone(), terms.monthly_quota);
        let account = Account { id, plan, created_at, caps, monthly_quota, permissions };
        User { account: Arc::new(account), bucket: Arc::new(Bucket::per_minute(terms.rate_per_minute)) }
    }
}

/// Makes a key, and its account where that is new. What is returned is not kept anywhere.
///
/// # Errors
/// The account is on another plan, or the database fails.
pub(crate) async fn create_key(
    database: &Database,
    asked: &KeysCreate,
) -> Result<SecretString, CreateKeyError> {
    let (key, text) = ApiKey::random();
    let permissions = if asked.permission.is_empty() { &Permission::ALL[..] } else { &asked.permission };
    let new = NewKey {
        account: &asked.account,
        plan: asked.plan.as_str(),
        hash: &key.hash().to_string(),
        permissions: &Permission::to_list(permissions),
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
    Ok(text)
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateKeyError {
    #[error("account `{account}` is on plan `{plan}`: give --plan {plan} to make another key of it")]
    OtherPlan { account: String, plan: String },
    #[error("the key could not be made: {0}")]
    Database(#[from] sqlx::Error),
}

/// The secret part of an API key: 64 hexadecimal digits.
#[derive(Debug)]
pub(crate) struct ApiKey(SecretString);

impl ApiKey {
    const DIGITS: usize = 64;
    /// Both name the same key: the prefix says who issued it, the digits are the secret.
    pub(crate) const PREFIXES: [&str; 2] = ["mxcep_", "veriko_"];

    /// A new key, and how clients send it. Version 4 UUIDs are made of the system's randomness, 122 bits each: three of
    /// them hold more than the 256 bits of a key.
    fn random() -> (Self, SecretString) {
        let mut digits = Sha256::new();
        for _ in 0..3 {
            digits.update(uuid::Uuid::new_v4());
        }
        let digits = hex::encode(&digits.finalize());
        let text = SecretString::from(format!("{}{digits}", Self::PREFIXES[0]));
        (Self(SecretString::from(digits)), text)
    }

    /// Reads a key as clients send it; `None` if it cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = Self::PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix))?;
        let well_formed = digits.len() == Self::DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        well_formed.then(|| Self(SecretString::from(digits)))
    }

    fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.0.expose_secret()).into())
    }
}

#[derive(PartialEq, Eq, Hash)]
struct KeyHash([u8; 32]);

/// As the database has it.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    async fn accounts(demo: bool) -> Accounts {
        let database = Database::open("sqlite::memory:").await.unwrap();
        Accounts::new(Arc::new(Config::load(None).unwrap().veriko), database, demo)
    }

    fn key(digit: &str) -> ApiKey {
        ApiKey::parse(&format!("mxcep_{}", digit.repeat(64))).unwrap()
    }

    fn asked(account: &str, plan: Plan, permission: &[Permission]) -> KeysCreate {
        KeysCreate::new(account, plan, permission)
    }

    #[tokio::test]
    async fn a_key_that_was_made_is_found_with_what_it_may() {
        let accounts = accounts(false).await;
        let made =
            create_key(&accounts.database, &asked("acme", Plan::Basic, &[Permission::Update])).await.unwrap();
        let key = ApiKey::parse(made.expose_secret()).unwrap();
        for _ in 0..2 {
            let user = accounts.find(&key).await.unwrap().unwrap();
            assert_eq!((user.id(), user.monthly_quota()), ("acme", 5000));
            assert!(user.may(Permission::Update) && !user.may(Permission::Validate));
        }
        let all = create_key(&accounts.database, &asked("acme", Plan::Basic, &[])).await.unwrap();
        let all = accounts.find(&ApiKey::parse(all.expose_secret()).unwrap()).await.unwrap().unwrap();
        assert!(Permission::ALL.into_iter().all(|permission| all.may(permission)));
    }

    #[tokio::test]
    async fn an_account_stays_on_its_plan() {
        let accounts = accounts(false).await;
        create_key(&accounts.database, &asked("acme", Plan::Basic, &[])).await.unwrap();
        let refused = create_key(&accounts.database, &asked("acme", Plan::Pro, &[])).await.unwrap_err();
        assert!(refused.to_string().contains("`basic`"), "{refused}");
    }

    #[tokio::test]
    async fn one_key_has_one_bucket_however_it_is_found() {
        let accounts = accounts(false).await;
        let made = create_key(&accounts.database, &asked("acme", Plan::Free, &[])).await.unwrap();
        let key = ApiKey::parse(made.expose_secret()).unwrap();
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
        for prefix in ApiKey::PREFIXES {
            let key = ApiKey::parse(&format!("{prefix}{}", "1".repeat(64))).unwrap();
            assert_eq!(accounts.find(&key).await.unwrap().unwrap().id(), "demo-pro");
        }
    }

    #[test]
    fn what_is_not_a_key_is_not_looked_up() {
        let ones = "1".repeat(64);
        for text in ["", "mxcep_", &ones, &format!("mxcep_{ones}1"), &format!("mxcep_{}é", &ones[2..])] {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn debug_output_shows_no_key() {
        let key = ApiKey::parse(&format!("mxcep_{}", "1".repeat(64))).unwrap();
        assert!(!format!("{key:?}").contains("1111"));
    }

    #[tokio::test]
    async fn the_read_only_account_may_neither_create_nor_update() {
        let accounts = accounts(true).await;
        for (digit, may) in [("1", true), ("4", false)] {
            let user = accounts.find(&key(digit)).await.unwrap().unwrap();
            assert_eq!((user.may(Permission::Validate), user.may(Permission::Update)), (may, may));
        }
    }
}
