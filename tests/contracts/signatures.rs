//! How webhooks are signed.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA256 in hexadecimal digits.
pub(crate) fn hmac(secret: &str, bytes: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(bytes);
    mac.finalize().into_bytes().iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}
