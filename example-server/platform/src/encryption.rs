//! Encryption of the secrets in the database, so that a copy of the database alone does not expose
//! them.
//!
//! A sealed text opens only with the key and for the context it was sealed with. It includes the id
//! of its key, so that an old key can stay configured beside a new one.

mod source;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use self::source::Source;

/// Seals and opens secrets with `XChaCha20-Poly1305`.
pub struct Sealer {
    source: Source,
    /// Loaded on first use.
    keys: Mutex<Option<Arc<Keys>>>,
}

/// An error of sealing or opening. The messages are for the operator and contain no key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("SEALING_KEY must be 64 hexadecimal digits, or several such keys separated by commas")]
    InvalidKeys,
    #[error("the key file {} cannot be used: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("the key file {} is accessible to other users (mode {mode:o}): run `chmod 600` on it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the key file {} does not contain a key of 64 hexadecimal digits", .0.display())]
    NoKey(PathBuf),
    #[error(
        "this database has secrets that were sealed with the key `{0}`, which is not configured: set SEALING_KEY to it, or \
         restore its key file"
    )]
    UnknownKey(String),
    #[error("a sealed secret is damaged, or was sealed for another context")]
    Damaged,
}

impl Sealer {
    /// Creates a sealer with the keys of `SEALING_KEY`, if `given`. The first of them seals; all of
    /// them open.
    ///
    /// Without `SEALING_KEY`, the key comes from `file`, which is created when there is first
    /// something to seal. With neither, the sealer uses a random key that is not stored.
    ///
    /// # Errors
    ///
    /// If `SEALING_KEY` or an existing file is not usable as a key.
    pub fn new(given: Option<&SecretString>, file: Option<PathBuf>) -> Result<Self, SealError> {
        let source = match (given, file) {
            (Some(given), _) => Source::Configured(Keys::parse(given.expose_secret())?),
            (None, Some(path)) => Source::File(path),
            (None, None) => Source::Configured(Keys(vec![MasterKey::random()])),
        };
        let sealer = Self { source, keys: Mutex::new(None) };
        sealer.keys(false)?;
        Ok(sealer)
    }

    /// Seals `secret` for the context `about`, which is authenticated but not stored.
    ///
    /// # Errors
    ///
    /// If the key file cannot be read or created.
    pub fn seal(&self, about: &str, secret: &[u8]) -> Result<String, SealError> {
        let keys = self.keys(true)?;
        let key = keys.as_ref().and_then(|keys| keys.0.first()).ok_or(SealError::InvalidKeys)?;
        let nonce = XNonce::generate();
        let payload = Payload { msg: secret, aad: about.as_bytes() };
        let sealed = key.cipher.encrypt(&nonce, payload).map_err(|_| SealError::Damaged)?;
        let bytes = [&nonce[..], &sealed].concat();
        Ok(format!("{}.{}", key.id, BASE64.encode(bytes)))
    }

    /// Opens a text that was sealed for the context `about`.
    ///
    /// # Errors
    ///
    /// If the text is damaged, was sealed for another context, or its key is not available.
    pub fn open(&self, about: &str, sealed: &str) -> Result<Vec<u8>, SealError> {
        let (id, bytes) = sealed.split_once('.').ok_or(SealError::Damaged)?;
        let keys = self.keys(false)?;
        let key = keys.as_ref().and_then(|keys| keys.0.iter().find(|key| key.id == id));
        let key = key.ok_or_else(|| SealError::UnknownKey(id.to_owned()))?;
        let bytes = BASE64.decode(bytes).map_err(|_| SealError::Damaged)?;
        let (nonce, msg) = bytes.split_first_chunk::<24>().ok_or(SealError::Damaged)?;
        let payload = Payload { msg, aad: about.as_bytes() };
        key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::Damaged)
    }

    /// Returns the keys. If there are none yet, creates one if `create`, or else returns `None`.
    fn keys(&self, create: bool) -> Result<Option<Arc<Keys>>, SealError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.is_none() {
            *keys = self.source.keys(create)?.map(Arc::new);
        }
        Ok(keys.clone())
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// One or more keys. The first one seals.
#[derive(Clone)]
struct Keys(Vec<MasterKey>);

impl Keys {
    fn parse(text: &str) -> Result<Self, SealError> {
        let keys = text.split(',').map(|digits| MasterKey::parse(digits.trim()));
        Ok(Self(keys.collect::<Option<_>>().ok_or(SealError::InvalidKeys)?))
    }
}

#[derive(Clone)]
struct MasterKey {
    /// Identifies the key without revealing anything about it.
    id: String,
    cipher: XChaCha20Poly1305,
}

impl MasterKey {
    fn new(bytes: &[u8; 32]) -> Self {
        let id = Sha256::new().chain_update("which sealing key").chain_update(bytes).finalize();
        Self { id: hex::encode(&id[..4]), cipher: XChaCha20Poly1305::new(bytes.into()) }
    }

    fn random() -> Self {
        Self::new(&random())
    }

    fn parse(digits: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok().map(|()| Self::new(&bytes))
    }
}

/// Returns 256 bits from the system's random number generator.
pub fn random() -> [u8; 32] {
    chacha20poly1305::Key::generate().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: &str) -> SecretString {
        digit.repeat(64).into()
    }

    fn given(keys: &str) -> Sealer {
        Sealer::new(Some(&keys.into()), None).unwrap()
    }

    #[test]
    fn a_sealed_text_opens_only_for_its_context() {
        let sealer = Sealer::new(None, None).unwrap();
        let kept = sealer.seal("endpoint 1", b"secret").unwrap();
        assert!(!kept.contains("secret"));
        assert_ne!(kept, sealer.seal("endpoint 1", b"secret").unwrap());
        assert_eq!(sealer.open("endpoint 1", &kept).unwrap(), b"secret");
        assert!(matches!(sealer.open("endpoint 2", &kept), Err(SealError::Damaged)));
        for damaged in ["", "x", &kept[..9], &kept[..kept.len() - 4], &format!("{kept}AAAA")] {
            assert!(sealer.open("endpoint 1", damaged).is_err(), "{damaged}");
        }
        let other = Sealer::new(None, None).unwrap();
        assert!(matches!(other.open("endpoint 1", &kept), Err(SealError::UnknownKey(_))));
    }

    #[test]
    fn a_new_key_seals_while_the_old_one_still_opens() {
        let [old, new] = ["1", "2"].map(|digit| digit.repeat(64));
        let before = given(&old).seal("x", b"a").unwrap();
        let both = given(&format!("{new}, {old}"));
        assert_eq!(both.open("x", &before).unwrap(), b"a");
        let after = both.seal("x", b"b").unwrap();
        assert_eq!(given(&new).open("x", &after).unwrap(), b"b");
        assert!(matches!(given(&new).open("x", &before), Err(SealError::UnknownKey(_))));
    }

    #[test]
    fn an_invalid_key_is_refused_and_not_printed() {
        for keys in ["", "hunter2", &"1".repeat(63), &format!("{},", "1".repeat(64))] {
            let error = Sealer::new(Some(&(*keys).into()), None).unwrap_err();
            assert!(
                matches!(error, SealError::InvalidKeys) && !error.to_string().contains("hunter2"),
                "{keys}"
            );
        }
        assert!(Sealer::new(Some(&key("a")), None).is_ok());
    }
}
