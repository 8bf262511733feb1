//! Secrets that must be read again, as they are kept: sealed, so that whoever reads the database alone learns none.
//!
//! A sealed text is opened only with the key it was sealed with, and only as what it was sealed as. It names its key, so
//! that a new one can be given beside the old.

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
use crate::hex;

/// Seals and opens.
pub struct Sealer {
    source: Source,
    /// From when they are first needed.
    keys: Mutex<Option<Arc<Keys>>>,
}

/// Why nothing is sealed or opened. The words are for the operator, and hold no key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("SEALING_KEY must be 64 hexadecimal digits, or several such keys with commas between them")]
    InvalidKeys,
    #[error("the key file {} cannot be used: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("the key file {} can be opened by other users (mode {mode:o}): take that away with `chmod 600`", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the key file {} does not hold a key of 64 hexadecimal digits", .0.display())]
    NoKey(PathBuf),
    #[error(
        "this database holds secrets that were sealed with the key `{0}`, which is not here: set SEALING_KEY to it, or put \
         its key file back"
    )]
    UnknownKey(String),
    #[error("a sealed secret is damaged, or belongs elsewhere")]
    Damaged,
}

impl Sealer {
    /// With the keys of `SEALING_KEY`, the first of which seals; without it, with the one in this file, which is made when
    /// there is first something to seal; with neither, with one that nobody keeps.
    ///
    /// # Errors
    /// What is there is no key.
    pub fn new(given: Option<&SecretString>, file: Option<PathBuf>) -> Result<Self, SealError> {
        let source = match (given, file) {
            (Some(given), _) => Source::Configured(Keys::given(given.expose_secret())?),
            (None, Some(path)) => Source::File(path),
            (None, None) => Source::Configured(Keys(vec![MasterKey::random()])),
        };
        let sealer = Self { source, keys: Mutex::new(None) };
        sealer.keys(false)?;
        Ok(sealer)
    }

    /// Seals `secret` as what `about` names.
    pub fn seal(&self, about: &str, secret: &[u8]) -> Result<String, SealError> {
        let keys = self.keys(true)?;
        let key = keys.as_ref().and_then(|keys| keys.0.first()).ok_or(SealError::InvalidKeys)?;
        let nonce = XNonce::generate();
        let payload = Payload { msg: secret, aad: about.as_bytes() };
        let sealed = key.cipher.encrypt(&nonce, payload).map_err(|_| SealError::Damaged)?;
        let bytes = [&nonce[..], &sealed].concat();
        Ok(format!("{}.{}", key.id, BASE64.encode(bytes)))
    }

    /// Opens what was sealed as what `about` names.
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

    /// The keys, if there are any yet, or else if there must be.
    fn keys(&self, make: bool) -> Result<Option<Arc<Keys>>, SealError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.is_none() {
            *keys = self.source.keys(make)?.map(Arc::new);
        }
        Ok(keys.clone())
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// At least one, the one that seals first.
#[derive(Clone)]
struct Keys(Vec<MasterKey>);

impl Keys {
    fn given(text: &str) -> Result<Self, SealError> {
        let keys = text.split(',').map(|digits| MasterKey::parse(digits.trim()));
        Ok(Self(keys.collect::<Option<_>>().ok_or(SealError::InvalidKeys)?))
    }
}

#[derive(Clone)]
struct MasterKey {
    /// Which one it is, which tells nothing of it.
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
        hex::decode(digits).map(|bytes| Self::new(&bytes))
    }
}

/// As many bits of the system's randomness as a key has.
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
    fn what_is_sealed_is_opened_as_what_it_was_and_as_nothing_else() {
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
    fn a_key_that_is_none_is_refused_without_being_shown() {
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
