//! Whose something is.

use crate::api_key::Environment;

/// An account in one of its environments. What is one owner's does not exist for any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub account: String,
    pub environment: Environment,
}

#[cfg(any(test, feature = "testing"))]
impl Owner {
    pub fn test(account: &str) -> Self {
        Self { account: account.to_owned(), environment: Environment::Test }
    }
}
