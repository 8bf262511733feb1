//! The principal that a key belongs to.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::key::Key;
use crate::store::RecordId;

/// The principal that a key belongs to. Set it with [`Builder::scope`](crate::Builder::scope).
///
/// Two clients that send the same key share a record only if their scopes are equal. So a scope
/// contains everything that separates clients: the account, and for example the environment. The
/// parts are hashed at once, so you can pass an API key as it is.
///
/// ```
/// use idempotency_layer::Scope;
///
/// let scope = Scope::of("account 17").and("sandbox");
/// ```
#[derive(Clone)]
pub struct Scope(Sha256);

impl Scope {
    /// Returns the scope of a principal: a user, an account or an API key.
    pub fn of(principal: impl AsRef<[u8]>) -> Self {
        let mut scope = Self(Sha256::new_with_prefix(b"record 1"));
        scope.push(principal.as_ref());
        scope
    }

    /// Narrows the scope by a further part, such as an environment or a region.
    ///
    /// Each part is hashed with its length, so `of("ab").and("c")` and `of("a").and("bc")` are
    /// different scopes.
    #[must_use]
    pub fn and(mut self, part: impl AsRef<[u8]>) -> Self {
        self.push(part.as_ref());
        self
    }

    /// Adds a part in place.
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    /// Returns the record of a key in this scope. A marker that no scope contains separates the
    /// two, so a longer scope with a shorter key is another record.
    pub(crate) fn record(mut self, key: &Key) -> RecordId {
        self.0.update(u64::MAX.to_be_bytes());
        self.push(key.as_bytes());
        RecordId::from_bytes(self.0.finalize().into())
    }
}

/// Shows nothing, because a scope may be made from a secret.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn record(scope: Scope, key: &'static str) -> RecordId {
        scope.record(&Key::new(HeaderValue::from_static(key)))
    }

    #[test]
    fn the_same_scope_and_key_name_the_same_record() {
        assert_eq!(record(Scope::of("a").and("b"), "key"), record(Scope::of("a").and("b"), "key"));
    }

    #[test]
    fn no_byte_moves_from_one_part_to_the_next() {
        let records = [
            record(Scope::of("ab").and("c"), "key"),
            record(Scope::of("a").and("bc"), "key"),
            record(Scope::of("abc"), "key"),
            record(Scope::of("abc").and(""), "key"),
            record(Scope::of("ab"), "ckey"),
            record(Scope::of("ab").and("c").and("key"), ""),
        ];
        for (i, one) in records.iter().enumerate() {
            for other in &records[i + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn neither_the_scope_nor_the_record_shows_what_it_was_made_of() {
        let scope = Scope::of("sk_live_secret");
        assert_eq!(format!("{scope:?}"), "Scope { .. }");
        assert!(!format!("{:?}", record(scope, "my-key")).contains("key"));
    }
}
