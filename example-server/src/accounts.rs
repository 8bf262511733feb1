//! Who may call: accounts, their plans, and the hashes of their keys.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::config::Veriko;
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

    /// The bucket of the key this request came with.
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Whether the account was given this permission.
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

#[derive(Debug)]
struct Account {
    id: String,
    caps: Caps,
    permissions: &'static [Permission],
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

/// Every account, found by key.
///
/// Keys are held as SHA-256 only. They are 256 random bits, so a plain hash is enough, and since the lookup is by that
/// hash no comparison of secrets takes place whose time could tell anything.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    by_key: HashMap<KeyHash, User>,
}

impl Accounts {
    /// The four fixed accounts of `--demo`. Their keys are public.
    pub(crate) fn demo(config: &Veriko) -> Self {
        let everything: &[_] = &[Permission::Validate, Permission::Update, Permission::ValidateOcr];
        let mut accounts = Self::default();
        for (digit, id, plan, permissions) in [
            ("1", "demo-pro", Plan::Pro, everything),
            ("2", "demo-basic", Plan::Basic, everything),
            ("3", "demo-free", Plan::Free, everything),
            ("4", "demo-readonly", Plan::Basic, &[]),
        ] {
            let terms = config.terms(plan);
            let account = Account { id: id.to_owned(), caps: terms.caps.clone(), permissions };
            let bucket = Arc::new(Bucket::per_minute(terms.rate_per_minute));
            let key = ApiKey(SecretString::from(digit.repeat(ApiKey::DIGITS)));
            accounts.by_key.insert(key.hash(), User { account: Arc::new(account), bucket });
        }
        accounts
    }

    /// Whose key this is.
    pub(crate) fn find(&self, key: &ApiKey) -> Option<User> {
        self.by_key.get(&key.hash()).cloned()
    }

    /// Whether nobody can call at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

/// The secret part of an API key: 64 hexadecimal digits.
#[derive(Debug)]
pub(crate) struct ApiKey(SecretString);

impl ApiKey {
    const DIGITS: usize = 64;
    /// Both name the same key: the prefix says who issued it, the digits are the secret.
    const PREFIXES: [&str; 2] = ["mxcep_", "veriko_"];

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

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn accounts() -> Accounts {
        Accounts::demo(&Config::load(None).unwrap().veriko)
    }

    #[test]
    fn both_prefixes_name_the_same_key() {
        let accounts = accounts();
        for prefix in ApiKey::PREFIXES {
            let key = ApiKey::parse(&format!("{prefix}{}", "1".repeat(64))).unwrap();
            assert_eq!(accounts.find(&key).unwrap().id(), "demo-pro");
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

    #[test]
    fn the_read_only_account_may_neither_create_nor_update() {
        let accounts = accounts();
        let user = |digit: &str| {
            accounts.find(&ApiKey::parse(&format!("mxcep_{}", digit.repeat(64))).unwrap()).unwrap()
        };
        assert!(user("1").may(Permission::Validate) && user("1").may(Permission::Update));
        assert!(!user("4").may(Permission::Validate) && !user("4").may(Permission::Update));
    }
}
