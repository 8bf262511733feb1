//! API keys: their format and their hash.

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::text::UnknownText;

/// The format of an API's keys: a prefix, which gives the environment, and a secret.
#[derive(Debug, Clone, Copy)]
pub struct KeyFormat {
    /// The prefixes and their environments. Prefixes of one environment are interchangeable: with
    /// the same secret, they form the same key. New keys use the first.
    pub prefixes: &'static [(&'static str, Environment)],
    /// Returns whether a text has the format of the secret.
    pub is_secret: fn(&str) -> bool,
}

impl KeyFormat {
    /// Returns the prefix of new keys. An API without keys for this environment uses its first
    /// prefix.
    fn prefix_of(&self, environment: Environment) -> &'static str {
        let (prefix, _) =
            self.prefixes.iter().find(|(_, of)| *of == environment).unwrap_or(&self.prefixes[0]);
        prefix
    }
}

/// An API key. Only its hash is kept, which is enough to find its owner.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ApiKey {
    hash: [u8; 32],
    environment: Environment,
}

impl ApiKey {
    /// Generates a key. Returns it together with its text, which clients send.
    ///
    /// The secret is the hash of three version 4 UUIDs. Each has 122 random bits from the system,
    /// so together they have more than the 256 bits of a key.
    pub fn random(format: &KeyFormat, environment: Environment) -> (Self, SecretString) {
        let mut secret = Sha256::new();
        for _ in 0..3 {
            secret.update(uuid::Uuid::new_v4());
        }
        let text = format!("{}{}", format.prefix_of(environment), hex::encode(secret.finalize()));
        let key = Self::parse(format, &text).expect("a new key has the format of the API");
        (key, SecretString::from(text))
    }

    /// Parses a key as clients send it. Returns `None` if it does not have the API's format.
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

    /// Returns the SHA-256 hash in hexadecimal digits, as the database stores it.
    pub fn hash(&self) -> String {
        hex::encode(self.hash)
    }

    /// Returns the id that operators use for the key. It reveals nothing about the secret.
    pub fn id(&self) -> String {
        format!("key_{}", hex::encode(&self.hash[..8]))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// The environment of a key. Data of one environment does not exist in the other.
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
