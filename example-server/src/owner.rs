//! Whose something is.

use crate::accounts::Environment;

/// An account in one of its environments. What is one owner's does not exist for any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) account: String,
    pub(crate) environment: Environment,
}

#[cfg(test)]
impl Owner {
    pub(crate) fn test(account: &str) -> Self {
        Self { account: account.to_owned(), environment: Environment::Test }
    }
}
