//! The id of a fax.

use std::fmt;

use uuid::Uuid;

/// The id of a fax: `fax_` and 26 letters and digits, in the order of creation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FaxId(String);

impl FaxId {
    const PREFIX: &'static str = "fax_";

    pub(crate) fn random() -> Self {
        Self(format!("{}{}", Self::PREFIX, base32(Uuid::now_v7().as_u128())))
    }

    /// Parses an id. Returns `None` if the text is not a valid one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?;
        let well_formed = digits.len() == DIGITS && digits.bytes().all(|digit| ALPHABET.contains(&digit));
        well_formed.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FaxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Crockford's alphabet, which has no similar-looking digits.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// The number of digits for 128 bits, five bits each.
const DIGITS: usize = 26;

/// Encodes a number. The texts sort like the numbers.
pub(crate) fn base32(number: u128) -> String {
    let digit = |place: usize| ALPHABET[usize::try_from(number >> (5 * place) & 31).unwrap_or_default()];
    (0..DIGITS).rev().map(|place| char::from(digit(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        assert_eq!(base32(0), "0".repeat(26));
        assert_eq!(base32(u128::MAX), format!("7{}", "Z".repeat(25)));
        let ids: Vec<_> = (0..100).map(|_| FaxId::random().0).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn an_invalid_id_is_not_looked_up() {
        let id = FaxId::random();
        assert_eq!(FaxId::parse(id.as_str()), Some(id.clone()));
        for text in ["", "fax_", "../etc/passwd", &id.0[4..], &format!("{id}0"), &id.0.to_lowercase()] {
            assert_eq!(FaxId::parse(text), None, "{text}");
        }
    }
}
