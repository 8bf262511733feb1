//! API keys: their format, and the hash by which they are known.

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::hex;
use crate::text::UnknownText;

/// What the keys of an API look like: a prefix, which tells the environment, and a secret.
#[derive(Debug, Clone, Copy)]
pub struct KeyFormat {
    /// Of two with one environment, both name the same key; new keys have the first.
    pub prefixes: &'static [(&'static str, Environment)],
    /// Whether this can be the secret.
    pub is_secret: fn(&str) -> bool,
}

impl KeyFormat {
    /// The prefix of new keys. An API without test keys has one environment, whatever was asked for.
    fn prefix_of(&self, environment: Environment) -> &'static str {
        let (prefix, _) =
            self.prefixes.iter().find(|(_, of)| *of == environment).unwrap_or(&self.prefixes[0]);
        prefix
    }
}

/// A key, of which only what finds its holder is kept.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ApiKey {
    hash: [u8; 32],
    environment: Environment,
}

impl ApiKey {
    /// A new key, and how clients send it. Version 4 UUIDs are made of the system's randomness, 122 bits each: three of
    /// them hold more than the 256 bits of a key.
    pub fn random(format: &KeyFormat, environment: Environment) -> (Self, SecretString) {
        let mut secret = Sha256::new();
        for _ in 0..3 {
            secret.update(uuid::Uuid::new_v4());
        }
        let text = format!("{}{}", format.prefix_of(environment), hex::encode(&secret.finalize()));
        let key = Self::parse(format, &text).expect("a new key has the form of keys");
        (key, SecretString::from(text))
    }

    /// Reads a key as clients send it; `None` if it cannot be one.
    pub fn parse(format: &KeyFormat, text: &str) -> Option<Self> {
        let (secret, environment) = format
            .prefixes
            .iter()
            .find_map(|(prefix, environment)| Some((text.strip_prefix(prefix)?, *environment)))?;
        if !(format.is_secret)(secret) {
            return None;
        }
        let hash = Sha256::new_with_prefix(format.prefix_of(environment)).chain_update(secret).finalize();
        Some(Self { hash: hash.into(), environment })
    }

    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// In hexadecimal digits, as the database has it.
    pub fn hash(&self) -> String {
        hex::encode(&self.hash)
    }

    /// Returns the id by which operators name the key. It tells nothing of the key.
    pub fn id(&self) -> String {
        format!("key_{}", hex::encode(&self.hash[..8]))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Whether a key is for trying things out. What is done in one environment does not exist in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// `test`
    Test,
    /// `live`
    Live,
}

impl Environment {
    pub const fn as_str(self) -> &'static str {
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
