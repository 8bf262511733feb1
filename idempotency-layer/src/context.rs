//! What the handler learns of its key.

#[cfg(feature = "axum")]
mod axum;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::StoreError;
use crate::key::Key;
use crate::store::{Checkpoint, Fence, Fenced, RecordId, Run, Store};

/// What the handler learns of its key: an extension of every request that runs under a claim.
///
/// A request without a key, or one the contract does not concern, has none.
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
pub struct Idempotency(Arc<Context>);

struct Context {
    key: Key,
    record: RecordId,
    fence: Fence,
    attempt: u32,
    recovered: Option<Checkpoint>,
    checkpoints: Arc<dyn Checkpoints>,
}

impl Idempotency {
    pub(crate) fn new(key: Key, record: RecordId, run: Run, checkpoints: Arc<dyn Checkpoints>) -> Self {
        let Run { fence, attempt, checkpoint, .. } = run;
        Self(Arc::new(Context { key, record, fence, attempt, recovered: checkpoint, checkpoints }))
    }

    /// The key as the client sent it. Keep it out of logs: clients put meaning into their keys.
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// How many times the request was begun, this time included; 1 on a first run.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// A key for the next service: 64 hexadecimal digits, the same on every attempt of this request, another for
    /// each `label`, and telling nothing of the client's key.
    pub fn derive(&self, label: &str) -> String {
        let mut hasher = Sha256::new_with_prefix(b"idempotency-layer derived key 1");
        hasher.update(self.0.record.as_bytes());
        hasher.update(label);
        hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 15)]));
            hex
        })
    }

    /// The latest checkpoint of earlier attempts: what was done, and need not be done again.
    pub fn recovered(&self) -> Option<&Checkpoint> {
        self.0.recovered.as_ref()
    }

    /// Remembers that a step was done, in place of the checkpoint before. An attempt that takes over, after a crash or
    /// after a response that was not stored, finds it in [`recovered`](Self::recovered).
    ///
    /// The effect and its checkpoint are two things: a crash between them repeats the step. Give the service that
    /// carries it out a [derived](Self::derive) key.
    ///
    /// # Errors
    ///
    /// When the store was not reached, or another run holds the claim by now: stop then.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped has taken effect whole or not at all.
    pub async fn checkpoint(
        &self,
        name: impl Into<String>,
        data: impl Into<Bytes>,
    ) -> Result<(), CheckpointError> {
        let checkpoint = Checkpoint { name: name.into(), data: data.into() };
        match self.0.checkpoints.write(self.0.record, self.0.fence, checkpoint).await {
            Ok(Fenced::Held) => Ok(()),
            Ok(Fenced::Stale) => Err(CheckpointError::Stale),
            Err(error) => Err(CheckpointError::Store(error)),
        }
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("record", &self.0.record)
            .field("attempt", &self.0.attempt)
            .finish_non_exhaustive()
    }
}

/// Why a checkpoint was not kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Another run holds the claim by now. Whatever this one does further counts for nothing.
    #[error("another run holds the claim of this request by now")]
    Stale,
    /// The store could not be asked.
    #[error("the checkpoint could not be stored")]
    Store(#[source] StoreError),
}

/// The store as a handler's context sees it, whatever its type.
pub(crate) trait Checkpoints: Send + Sync {
    fn write(&self, record: RecordId, fence: Fence, checkpoint: Checkpoint) -> Written<'_>;
}

pub(crate) type Written<'a> = Pin<Box<dyn Future<Output = Result<Fenced, StoreError>> + Send + 'a>>;

impl<S: Store> Checkpoints for S {
    fn write(&self, record: RecordId, fence: Fence, checkpoint: Checkpoint) -> Written<'_> {
        Box::pin(self.checkpoint(record, fence, checkpoint))
    }
}
