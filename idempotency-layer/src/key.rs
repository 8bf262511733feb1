//! Keys: their text, their syntax, and what they are bound to.

mod structured;

use std::fmt;
use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName, HeaderValue};

use self::structured::parse_string;

/// A valid key, as the client sent it.
///
/// `Debug` does not show it, and it never reaches a store: the name of a record is a hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    header: HeaderValue,
    content: Content,
}

/// Where the text of the key is.
#[derive(Clone, PartialEq, Eq)]
enum Content {
    Header,
    /// In the header, between its quotes.
    Quoted,
    /// In a structured-field String with escapes or parameters.
    Decoded(String),
}

impl Key {
    pub(crate) fn new(mut header: HeaderValue) -> Self {
        header.set_sensitive(true);
        Self { header, content: Content::Header }
    }

    /// Returns the bytes of the key, without the quotes of a structured field.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.content {
            Content::Header => self.header.as_bytes(),
            Content::Quoted => &self.header.as_bytes()[1..self.header.len() - 1],
            Content::Decoded(string) => string.as_bytes(),
        }
    }

    /// Returns the header value as the client sent it.
    pub fn as_header(&self) -> &HeaderValue {
        &self.header
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// The syntax of valid keys.
///
/// ```
/// use idempotency_layer::{Contract, KeySyntax};
///
/// let contract = Contract::ietf().key(KeySyntax::token(16..=64));
/// let hexadecimal = Contract::ietf().key(KeySyntax::bytes(32..=32, |byte| byte.is_ascii_hexdigit()));
/// ```
#[derive(Clone, Debug)]
pub struct KeySyntax {
    length: RangeInclusive<usize>,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Opaque,
    Bytes(fn(u8) -> bool),
    Structured { bare_too: bool },
}

impl KeySyntax {
    /// Accepts any header value of `length` characters. A value that is not UTF-8 is counted in
    /// bytes.
    pub const fn opaque(length: RangeInclusive<usize>) -> Self {
        Self { length, form: Form::Opaque }
    }

    /// Accepts `length` characters of `A-Z a-z 0-9 _ -`.
    pub const fn token(length: RangeInclusive<usize>) -> Self {
        Self::bytes(length, is_token)
    }

    /// Accepts `length` bytes for each of which `allowed` returns `true`.
    pub const fn bytes(length: RangeInclusive<usize>, allowed: fn(u8) -> bool) -> Self {
        Self { length, form: Form::Bytes(allowed) }
    }

    /// Accepts a structured-field String (RFC 9651, section 3.3.3) in its quotes: `"8e03978e"`.
    /// `length` counts the characters between the quotes. Parameters after the String are ignored,
    /// as the RFC requires for unknown ones.
    pub const fn structured(length: RangeInclusive<usize>) -> Self {
        Self { length, form: Form::Structured { bare_too: false } }
    }

    /// Also accepts the key without quotes, as most clients send it: `8e03978e` is the same key as
    /// `"8e03978e"`.
    ///
    /// Has no effect on other syntaxes than [`structured`](Self::structured).
    #[must_use]
    pub const fn or_bare(mut self) -> Self {
        if let Form::Structured { .. } = self.form {
            self.form = Form::Structured { bare_too: true };
        }
        self
    }

    /// Returns the key in `headers`, or `None` if the header is missing.
    ///
    /// # Errors
    ///
    /// If the header was sent twice or its value is not a valid key. A client that sends a broken
    /// key believes that it is protected, so this is not the same as no key.
    pub(crate) fn parse(&self, headers: &HeaderMap, name: &HeaderName) -> Result<Option<Key>, InvalidKey> {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(InvalidKey::Repeated);
        }
        let mut key = Key::new(value.clone());
        match self.form {
            Form::Opaque => {}
            Form::Bytes(allowed) => {
                if !value.as_bytes().iter().copied().all(allowed) {
                    return Err(InvalidKey::Syntax);
                }
            }
            Form::Structured { bare_too } => {
                key.content = match value.as_bytes() {
                    // Most quoted keys are plain, and need neither the parser nor its allocation.
                    [b'"', plain @ .., b'"'] if are_plain(plain) => Content::Quoted,
                    bare if bare_too && bare.iter().copied().all(is_bare) => Content::Header,
                    _ => Content::Decoded(parse_string(value.as_bytes()).ok_or(InvalidKey::Syntax)?),
                };
            }
        }
        let bytes = key.as_bytes();
        let characters = if bytes.is_ascii() {
            bytes.len()
        } else {
            std::str::from_utf8(bytes).map_or(bytes.len(), |text| text.chars().count())
        };
        if characters < *self.length.start() {
            return Err(InvalidKey::TooShort);
        }
        if characters > *self.length.end() {
            return Err(InvalidKey::TooLong);
        }
        Ok(Some(key))
    }
}

/// What a key is bound to besides the principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bind {
    /// Method and original path. The same key on another endpoint is another key.
    Endpoint,
    /// Nothing else. A principal uses a key once, on any endpoint.
    Principal,
}

/// Why the value of the header is not a valid key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The header was sent more than once.
    Repeated,
    /// The key is empty, or shorter than the contract asks.
    TooShort,
    /// The key is longer than the contract allows.
    TooLong,
    /// The key has a character, or a form, that the contract does not allow.
    Syntax,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repeated => "the header was sent more than once",
            Self::TooShort => "the key is too short",
            Self::TooLong => "the key is too long",
            Self::Syntax => "the key has a character or a form that is not allowed",
        })
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Returns whether each byte stands for itself in a structured-field String (RFC 9651,
/// section 4.2.5). The loop has no early exit, so that the compiler can vectorise it.
fn are_plain(bytes: &[u8]) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    bytes.iter().fold(true, |all, byte| all & is_plain(*byte))
}

/// Returns whether a bare key may contain the byte: visible ASCII without quotes and backslashes.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: HeaderName = HeaderName::from_static("idempotency-key");

    fn parse(syntax: &KeySyntax, values: &[&[u8]]) -> Result<Option<Vec<u8>>, InvalidKey> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_bytes(value).unwrap());
        }
        Ok(syntax.parse(&headers, &NAME)?.map(|key| key.as_bytes().to_vec()))
    }

    #[test]
    fn a_missing_header_is_no_key_and_a_repeated_one_is_an_error() {
        let syntax = KeySyntax::token(1..=255);
        assert_eq!(parse(&syntax, &[]), Ok(None));
        assert_eq!(parse(&syntax, &[b"a", b"a"]), Err(InvalidKey::Repeated));
    }

    #[test]
    fn a_token_is_bounded_in_length_and_alphabet() {
        let syntax = KeySyntax::token(1..=255);
        for good in [&b"a"[..], b"policy-update-2025_v1", &[b'x'; 255]] {
            assert_eq!(parse(&syntax, &[good]), Ok(Some(good.to_vec())));
        }
        assert_eq!(parse(&syntax, &[b""]), Err(InvalidKey::TooShort));
        assert_eq!(parse(&syntax, &[&[b'x'; 256]]), Err(InvalidKey::TooLong));
        for bad in [&b"a b"[..], b"a:b", b"a,b", "ñ".as_bytes(), b"\xff", b"\"a\""] {
            assert_eq!(parse(&syntax, &[bad]), Err(InvalidKey::Syntax));
        }
    }

    #[test]
    fn an_opaque_key_is_counted_in_characters() {
        let syntax = KeySyntax::opaque(1..=255);
        let wide = "ñ".repeat(255);
        assert_eq!(parse(&syntax, &[wide.as_bytes()]), Ok(Some(wide.clone().into_bytes())));
        assert_eq!(parse(&syntax, &[format!("{wide}ñ").as_bytes()]), Err(InvalidKey::TooLong));
        assert_eq!(parse(&syntax, &[&[0xff; 256]]), Err(InvalidKey::TooLong));
        assert_eq!(parse(&syntax, &[b"order 17: retry"]), Ok(Some(b"order 17: retry".to_vec())));
        assert_eq!(parse(&syntax, &[b""]), Err(InvalidKey::TooShort));
    }

    #[test]
    fn a_structured_key_is_a_quoted_string() {
        let syntax = KeySyntax::structured(1..=255);
        assert_eq!(parse(&syntax, &[br#""8e03978e""#]), Ok(Some(b"8e03978e".to_vec())));
        assert_eq!(parse(&syntax, &[br#""a\"b\\c""#]), Ok(Some(br#"a"b\c"#.to_vec())));
        assert_eq!(parse(&syntax, &[br#""a";v=1"#]), Ok(Some(b"a".to_vec())));
        assert_eq!(parse(&syntax, &[br#""""#]), Err(InvalidKey::TooShort));
        for bad in [&b"8e03978e"[..], br#""open"#, br#""a" "b""#, b"17", br#""a\n""#, b":YQ==:"] {
            assert_eq!(parse(&syntax, &[bad]), Err(InvalidKey::Syntax), "{bad:?}");
        }
    }

    #[test]
    fn a_lenient_structured_key_may_come_bare_and_is_the_same_key() {
        let syntax = KeySyntax::structured(1..=255).or_bare();
        assert_eq!(parse(&syntax, &[b"8e03978e"]), parse(&syntax, &[br#""8e03978e""#]));
        assert_eq!(parse(&syntax, &[br#""open"#]), Err(InvalidKey::Syntax));
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = Key::new(HeaderValue::from_static("secret"));
        assert_eq!(format!("{key:?} {:?}", key.as_header()), "Key { .. } Sensitive");
    }
}
