//! Accounts: their plans, and the permissions of their keys.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::api_key::{ApiKey, Environment};

/// The owner of an API key, and what the key may do.
#[derive(Debug, Clone)]
pub struct KeyOwner {
    /// The name of the account, which identifies it across all APIs.
    pub account: String,
    pub plan: AccountPlan,
    /// The time at which the account was created. Demo accounts have none.
    pub created_at: Option<Timestamp>,
    pub environment: Environment,
    pub permissions: Vec<Permission>,
    /// The SHA-256 hash of the key, in hexadecimal digits.
    pub key_hash: String,
}

impl KeyOwner {
    /// Creates the owner of a public demo key.
    pub fn of_demo(account: &str, plan: AccountPlan, permissions: &[Permission], key: &ApiKey) -> Self {
        Self {
            account: account.to_owned(),
            plan,
            created_at: None,
            environment: key.environment(),
            permissions: permissions.to_vec(),
            key_hash: key.hash(),
        }
    }
}

/// A permission that an operation can require, by the vendor's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission(&'static str);

impl Permission {
    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Returns the permissions as a comma-separated list, as the database stores them.
    pub fn to_list(permissions: &[Self]) -> String {
        permissions.iter().map(|permission| permission.0).collect::<Vec<_>>().join(",")
    }

    /// Parses a comma-separated list. Grants only the permissions in `known`, and ignores others.
    pub fn of_list(list: &str, known: &[Self]) -> Vec<Self> {
        known.iter().filter(|known| list.split(',').any(|name| name == known.0)).copied().collect()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The plans an account can be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountPlan {
    /// `free`
    Free,
    /// `basic`
    Basic,
    /// `pro`
    Pro,
}

impl AccountPlan {
    const ALL: [Self; 3] = [Self::Free, Self::Basic, Self::Pro];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Basic => "basic",
            Self::Pro => "pro",
        }
    }

    /// Returns the display name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "Free",
            Self::Basic => "Basic",
            Self::Pro => "Pro",
        }
    }
}

impl FromStr for AccountPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|plan| plan.as_str() == text)
            .ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}
