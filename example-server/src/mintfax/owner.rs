//! Whose something is.

use crate::accounts::Environment;

/// An account in one of its environments. What is one owner's does not exist for any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) account: String,
    pub(super) environment: Environment,
}

#[cfg(test)]
impl Owner {
    pub(super) fn test(account: &str) -> Self {
        Self { account: account.to_owned(), environment: Environment::Test }
    }
}
