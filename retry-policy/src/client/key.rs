use http::{HeaderName, HeaderValue};

use super::message::ClientRequest;

/// How the server recognises a repeated request.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Header {
        name: HeaderName,
        quoted: bool,
    },
    /// By something in the request itself, or not at all.
    None,
}

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl Key {
    /// Returns the key of the request, and generates one where the method needs one and the request has none.
    pub(super) fn ensure<Req: ClientRequest>(&self, request: &mut Req) -> Option<HeaderValue> {
        let Self::Header { name, quoted } = self else { return None };
        let mut value = match Self::given(name, request) {
            Some(given) => given.clone(),
            None if request.method().is_idempotent() => return None,
            None => {
                let key = generate(*quoted);
                request.headers_mut().insert(name.clone(), key.clone());
                key
            }
        };
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether the request can be sent again after the server may have seen it.
    pub(super) fn makes_repeatable<Req: ClientRequest>(&self, request: &Req) -> bool {
        match self {
            Self::None => true,
            Self::Header { name, .. } => {
                request.method().is_idempotent() || Self::given(name, request).is_some()
            }
        }
    }

    /// The key in the request. An empty header is none: a server that ignores it would run each try.
    fn given<'a, Req: ClientRequest>(name: &HeaderName, request: &'a Req) -> Option<&'a HeaderValue> {
        request.headers().get(name).filter(|value| !value.as_bytes().trim_ascii().is_empty())
    }
}

/// A random UUID (version 4), in quotes where the header is a structured field.
fn generate(quoted: bool) -> HeaderValue {
    let bits = u128::from(random()) << 64 | u128::from(random());
    // RFC 9562, section 5.4: the version is 4, the variant is binary 10.
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    let uuid = if quoted { format!("\"{uuid}\"") } else { uuid };
    let mut key = HeaderValue::try_from(uuid).expect("digits, hyphens and quotes make a header value");
    key.set_sensitive(true);
    key
}

pub(super) fn random() -> u64 {
    getrandom::u64().expect("the operating system gives random bytes")
}
