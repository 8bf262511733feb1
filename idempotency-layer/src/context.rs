//! The handler's view of its key.

#[cfg(feature = "axum")]
mod axum;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

#[cfg(feature = "axum")]
pub use self::axum::NoIdempotency;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::store::{Checkpoint, Fenced, RecordId, Run};

/// The handler's view of its key: an extension of every request that runs under a claim, and an
/// extractor of axum.
///
/// A request without a key, or one that the layer does not look at, has none.
///
/// ```
/// use idempotency_layer::Idempotency;
///
/// async fn charge<B>(request: http::Request<B>) -> Result<(), Box<dyn std::error::Error>> {
///     if let Some(idempotency) = request.extensions().get::<Idempotency>() {
///         if idempotency.recovered().is_none_or(|checkpoint| checkpoint.name != "charged") {
///             let key = idempotency.derive("charge"); // the same on every attempt: hand it to the bank
///             // … charge, with `key` …
///             idempotency.checkpoint("charged", key.into_bytes()).await?;
///         }
///     }
///     // … send the receipt …
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Idempotency(Arc<dyn Context>);

impl Idempotency {
    pub(crate) fn new(request: Arc<impl Context + 'static>) -> Self {
        Self(request)
    }

    /// Returns the key that the client sent. Keep it out of logs: clients put meaning into their
    /// keys.
    pub fn key(&self) -> &Key {
        self.0.key()
    }

    /// Returns the number of claims of this request, including this one: 1 on a first run.
    ///
    /// The count belongs to the record, and starts again when the record is forgotten. A run that
    /// ends without a stored response, such as a 503, is forgotten if it left no
    /// [`checkpoint`](Self::checkpoint), so the next attempt is 1 again. If it left one, the count
    /// goes on. It also goes on after a run whose process died, and it does not say whether that
    /// run reached the handler.
    pub fn attempt(&self) -> u32 {
        self.0.run().attempt
    }

    /// Returns a key for the next service: 64 hexadecimal digits that tell nothing of the client's
    /// key.
    ///
    /// It is the same on every attempt of this request, and different for each `label`. It depends
    /// on the request's [`Fingerprint`]: once the record is forgotten, the client may use its key
    /// for another request, which then gets other derived keys. So the next service does not
    /// mistake one request for the other.
    ///
    /// A retry gets other keys if a deploy changed the contract's
    /// [`FingerprintMode`](crate::FingerprintMode) since the first attempt. Under
    /// [`FingerprintMode::None`](crate::FingerprintMode::None), every request with the key has the
    /// same ones.
    pub fn derive(&self, label: &str) -> String {
        hex(&self.digest(label))
    }

    /// Returns a key for the next service in the form of a UUID, for services that ask for one. It
    /// changes when [`derive`](Self::derive)'s does.
    ///
    /// It is a UUID of version 8 (RFC 9562, section 5.8), with 122 bits of a SHA-256 digest.
    ///
    /// ```
    /// # fn example(idempotency: idempotency_layer::Idempotency) {
    /// let key = idempotency.derive_uuid("charge"); // such as "3f2b8c1e-9d47-8a06-b5e1-7c0f62d4a938"
    /// # }
    /// ```
    pub fn derive_uuid(&self, label: &str) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.digest(label)[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]].map(hex).join("-")
    }

    fn digest(&self, label: &str) -> [u8; 32] {
        let mut hasher = Sha256::new_with_prefix(b"idempotency-layer derived key 1");
        hasher.update(self.0.record().as_bytes());
        hasher.update(self.0.fingerprint().to_bytes());
        hasher.update(label);
        hasher.finalize().into()
    }

    /// Returns the latest checkpoint of earlier attempts: the step that need not be repeated.
    pub fn recovered(&self) -> Option<&Checkpoint> {
        self.0.run().checkpoint.as_ref()
    }

    /// Records that a step was done, in place of the previous checkpoint. The next attempt, after a
    /// crash or after a response that was not stored, finds it in [`recovered`](Self::recovered).
    ///
    /// The step and its checkpoint are not atomic: after a crash between them, the next attempt
    /// repeats the step. Give a [derived](Self::derive) key to the service that carries it out.
    ///
    /// # Errors
    ///
    /// - [`Stale`](CheckpointError::Stale) if another run holds the claim. Stop then.
    /// - [`Store`](CheckpointError::Store) if the store was not reached, and always in a [claim in
    ///   the transaction](crate::Builder::claim_in_transaction), whose checkpoint could not outlive
    ///   it.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped, it has taken effect completely or not at all.
    pub async fn checkpoint(
        &self,
        name: impl Into<String>,
        data: impl Into<Bytes>,
    ) -> Result<(), CheckpointError> {
        let checkpoint = Checkpoint::new(name, data);
        match self.0.write(checkpoint).await {
            Ok(Fenced::Held) => Ok(()),
            Ok(Fenced::Stale) => Err(CheckpointError::Stale),
            Err(error) => Err(CheckpointError::Store(error)),
        }
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("record", &self.0.record())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// An error of [`Idempotency::checkpoint`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Another run holds the claim. The response of this run will be refused.
    #[error("another run holds the claim of this request by now")]
    Stale,
    /// The store did not keep the checkpoint.
    #[error("the checkpoint could not be stored")]
    Store(#[source] StoreError),
}

/// A request that holds a claim, independent of the type of its store.
pub(crate) trait Context: Send + Sync {
    fn key(&self) -> &Key;

    fn record(&self) -> RecordId;

    fn fingerprint(&self) -> Fingerprint;

    fn run(&self) -> &Run;

    fn write(&self, checkpoint: Checkpoint) -> Written<'_>;
}

pub(crate) type Written<'a> = Pin<Box<dyn Future<Output = Result<Fenced, StoreError>> + Send + 'a>>;
