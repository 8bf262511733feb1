//! The owner of a resource.

use crate::api_key::Environment;

/// The owner of a resource: an account in one environment. Other owners cannot see the resource.
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
