//! Fingerprints, which tell whether two requests with one key are the same request.

mod json;
mod multipart;

use std::fmt;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};

use crate::key::Bind;

/// Which requests under one key count as the same request.
///
/// Method, original path and query are compared byte for byte, also if the key is not
/// [bound](crate::Bind) to them. No query equals an empty query.
///
/// | | the same request has | not distinguished |
/// |---|---|---|
/// | [`Raw`](Self::Raw) | the same method, path, query and body bytes | headers |
/// | [`Canonical`](Self::Canonical) | the same method, path, query and content of the body | headers, two types of JSON, two types of multipart |
/// | [`None`](Self::None) | any request with the key | everything |
///
/// No header is part of a fingerprint, not even `Content-Type` or `Content-Encoding`, because a
/// proxy may rewrite them between two tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FingerprintMode {
    /// Compares the bytes of the body, in one pass and without an allocation. For clients whose
    /// retries send the same bytes.
    #[default]
    Raw,
    /// Compares the content of the body. For clients that serialise the body again for each try.
    ///
    /// - `application/json` and `+json`: the order of members and white space are ignored. Strings
    ///   are compared by value (`"\u0041"` equals `"A"`), numbers by their text: 10000000000000001
    ///   differs from 10000000000000000, and 1.0, 1 and 1e0 are three numbers, because a handler
    ///   may distinguish them.
    /// - `multipart/*`: the boundary, the preamble and the epilogue are ignored. Parts are compared
    ///   byte for byte and in their order.
    /// - Every other body is compared byte for byte. So are bodies that do not parse, JSON with a
    ///   repeated name in an object or nested deeper than 128, a body with a `Content-Encoding`,
    ///   and a request with two `Content-Type` fields: parsers may disagree about their content.
    Canonical,
    /// Compares nothing: every request with the key is the same request.
    None,
}

/// The fingerprint of a request: a scheme, which names the algorithm and its version, and a SHA-256
/// digest.
///
/// The layer computes it. A store keeps the bytes of [`to_bytes`](Self::to_bytes) and compares with
/// [`matches`](Self::matches).
///
/// ```
/// use idempotency_layer::Fingerprint;
///
/// let (stored, seen) = ([1; Fingerprint::LEN], Fingerprint::from_bytes([1; Fingerprint::LEN]));
/// assert!(Fingerprint::from_bytes(stored).matches(&seen));
/// assert!(Fingerprint::NONE.matches(&seen));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    scheme: u8,
    digest: [u8; 32],
}

impl Fingerprint {
    /// The fingerprint of a request that is not compared. It matches every other.
    pub const NONE: Self = Self { scheme: scheme::NONE, digest: [0; 32] };

    /// The length of a fingerprint in a store, in bytes: one for the scheme, 32 for the digest.
    pub const LEN: usize = 33;

    /// Returns whether the two stand for the same request.
    ///
    /// Fingerprints of different schemes cannot be compared and match. [`NONE`](Self::NONE) matches
    /// every other.
    ///
    /// Schemes differ if a deploy changed the mode or the algorithm between a request and its
    /// retry. If the layer refused that retry, the client would take a new key, and the effect
    /// would happen twice. A wrong replay is less likely: it needs a client that uses one key for
    /// two requests during the deploy.
    ///
    /// `==` is stricter: it compares the bytes.
    pub fn matches(&self, other: &Self) -> bool {
        self.scheme != other.scheme || self.scheme == scheme::NONE || self.digest == other.digest
    }

    /// Returns the bytes for a store to keep.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [self.scheme; Self::LEN];
        bytes[1..].copy_from_slice(&self.digest);
        bytes
    }

    /// Returns the fingerprint that a store kept. Every value is valid. A scheme that this version
    /// does not know matches as described at [`matches`](Self::matches).
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [scheme, digest @ ..] = bytes;
        Self { scheme, digest }
    }
}

/// Shows the scheme and the first four bytes: enough to tell two apart in a log, but too few to
/// find a body by.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({}:", self.scheme)?;
        for byte in &self.digest[..4] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…)")
    }
}

/// Computes the fingerprint of a request. `Raw` copies and allocates nothing; `Canonical` takes
/// memory in proportion to the body.
///
/// If the key is bound to method and path, they are left out, because the record's name covers
/// them.
pub(crate) fn fingerprint(
    mode: FingerprintMode,
    bind: Bind,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Fingerprint {
    let query = uri.query().unwrap_or_default();
    let endpoint = (bind == Bind::Principal).then(|| [method.as_str(), uri.path()]);
    let target = Target { endpoint, query };
    let (scheme, hasher) = match (mode, bind) {
        (FingerprintMode::None, _) => return Fingerprint::NONE,
        (FingerprintMode::Raw, Bind::Principal) => (scheme::RAW, None),
        (FingerprintMode::Raw, Bind::Endpoint) => (scheme::RAW_OF_ENDPOINT, None),
        (FingerprintMode::Canonical, Bind::Principal) => {
            (scheme::CANONICAL, canonical(scheme::CANONICAL, target, headers, body))
        }
        (FingerprintMode::Canonical, Bind::Endpoint) => {
            let scheme = scheme::CANONICAL_OF_ENDPOINT;
            (scheme, canonical(scheme, target, headers, body))
        }
    };
    let hasher = hasher.unwrap_or_else(|| raw(scheme, target, body));
    Fingerprint { scheme, digest: hasher.finalize().into() }
}

/// The first byte of a fingerprint. Records outlive a deploy, so a change to the hashed input needs
/// a new number.
mod scheme {
    pub(super) const NONE: u8 = 0;
    pub(super) const RAW: u8 = 1;
    /// Also for a body that has no canonical form, so that its bytes never match the canonical form
    /// of another body.
    pub(super) const CANONICAL: u8 = 2;
    /// Without method and path, to which the record's name is bound.
    pub(super) const RAW_OF_ENDPOINT: u8 = 3;
    /// The canonical form without method and path.
    pub(super) const CANONICAL_OF_ENDPOINT: u8 = 4;
}

/// The part of a request that is hashed before the body.
#[derive(Clone, Copy)]
struct Target<'a> {
    /// Method and path, unless the record's name covers them.
    endpoint: Option<[&'a str; 2]>,
    query: &'a str,
}

/// The form of the body. It is hashed too, so that the bytes of one body never equal the canonical
/// form of another.
#[derive(Clone, Copy)]
enum Form {
    Raw = 0,
    Json = 1,
    Multipart = 2,
}

fn start(scheme: u8, form: Form, target: Target<'_>) -> Sha256 {
    let mut hasher = Sha256::new_with_prefix([scheme, form as u8]);
    for part in target.endpoint.into_iter().flatten() {
        sized(&mut hasher, part.as_bytes());
    }
    sized(&mut hasher, target.query.as_bytes());
    hasher
}

/// Hashes the length first, so that no byte can move from one piece to the next.
fn sized(hasher: &mut Sha256, piece: &[u8]) {
    hasher.update((piece.len() as u64).to_be_bytes());
    hasher.update(piece);
}

fn raw(scheme: u8, target: Target<'_>, body: &[u8]) -> Sha256 {
    let mut hasher = start(scheme, Form::Raw, target);
    if target.endpoint.is_some() {
        sized(&mut hasher, body);
    } else {
        // The body is the last piece, so it needs no length.
        hasher.update(body);
    }
    hasher
}

/// Returns `None` if the body has no canonical form.
fn canonical(scheme: u8, target: Target<'_>, headers: &HeaderMap, body: &[u8]) -> Option<Sha256> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else { return None };
    if headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let (media_type, parameters) = multipart::split_content_type(content_type.as_bytes());
    let media_type = media_type.to_ascii_lowercase();
    if media_type == b"application/json" || media_type.ends_with(b"+json") {
        let canonical = json::canonical(body)?;
        return Some(start(scheme, Form::Json, target).chain_update(canonical));
    }
    if !media_type.starts_with(b"multipart/") {
        return None;
    }
    let parts = multipart::parts(multipart::boundary(parameters)?, body)?;
    let mut hasher = start(scheme, Form::Multipart, target);
    for part in parts {
        sized(&mut hasher, part);
    }
    Some(hasher)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = "application/json";

    fn of(mode: FingerprintMode, content_type: &str, query: &str, body: &[u8]) -> Fingerprint {
        bound(Bind::Principal, mode, content_type, query, body)
    }

    fn bound(bind: Bind, mode: FingerprintMode, content_type: &str, query: &str, body: &[u8]) -> Fingerprint {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        fingerprint(mode, bind, &Method::POST, &uri(&format!("/a?{query}")), &headers, body)
    }

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    fn raw(query: &str, body: &str) -> Fingerprint {
        of(FingerprintMode::Raw, JSON, query, body.as_bytes())
    }

    fn canonical(content_type: &str, body: &str) -> Fingerprint {
        of(FingerprintMode::Canonical, content_type, "", body.as_bytes())
    }

    /// Fails if the hashed input changes. The scheme then needs a new number.
    #[test]
    fn the_schemes_in_stores_today_are_still_understood() {
        let json = r#"{"b":[1,"x",true,null],"a":{}}"#;
        let multipart = "--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--";
        let shown = |bind| {
            let canonical = |content_type, body: &str| {
                bound(bind, FingerprintMode::Canonical, content_type, "", body.as_bytes())
            };
            let raw = bound(bind, FingerprintMode::Raw, JSON, "a=1", b"{}");
            let multipart = canonical("multipart/mixed; boundary=b", multipart);
            format!("{:?}", [raw, canonical(JSON, json), multipart, canonical(JSON, "{")])
        };
        assert_eq!(
            shown(Bind::Principal),
            "[Fingerprint(1:51927b80…), Fingerprint(2:3a87be3c…), Fingerprint(2:d9f257d2…), Fingerprint(2:4c6a5c3c…)]",
        );
        assert_eq!(
            shown(Bind::Endpoint),
            "[Fingerprint(3:c05c9226…), Fingerprint(4:976e475b…), Fingerprint(4:5514bb6d…), Fingerprint(4:f56f0292…)]",
        );
    }

    #[test]
    fn where_the_record_covers_the_endpoint_the_fingerprint_covers_query_and_body() {
        let raw =
            |query, body: &str| bound(Bind::Endpoint, FingerprintMode::Raw, JSON, query, body.as_bytes());
        assert!(raw("a=1", "{}").matches(&raw("a=1", "{}")));
        for (query, body) in [("a=2", "{}"), ("a=1", "{ }"), ("a=", "1{}"), ("a=1{}", ""), ("", "a=1{}")] {
            assert!(!raw("a=1", "{}").matches(&raw(query, body)), "{query} {body}");
        }
        let canonical =
            |body: &str| bound(Bind::Endpoint, FingerprintMode::Canonical, JSON, "", body.as_bytes());
        assert!(
            canonical("[1]").matches(&canonical("[ 1 ]")) && !canonical("[1]").matches(&canonical("[2]"))
        );
        assert!(!canonical("[1").matches(&canonical("[ 1")), "a fallback");
        let at = |method, path| {
            fingerprint(FingerprintMode::Raw, Bind::Endpoint, &method, &uri(path), &HeaderMap::new(), b"{}")
        };
        assert_eq!(at(Method::POST, "/a"), at(Method::PUT, "/b"), "hashed once, in the record's name");
    }

    #[test]
    fn the_fingerprint_covers_target_and_body_and_nothing_moves_between_them() {
        assert!(raw("a=1", "{}").matches(&raw("a=1", "{}")));
        assert!(!raw("a=1", "{}").matches(&raw("a=2", "{}")));
        assert!(!raw("a=1", "{}").matches(&raw("a=1", "{ }")));
        assert!(!raw("ab", "c").matches(&raw("a", "bc")));
        assert!(!of(FingerprintMode::Canonical, JSON, "a", b"1").matches(&canonical(JSON, "1")));
        let bare = |method, path| {
            fingerprint(FingerprintMode::Raw, Bind::Principal, &method, &uri(path), &HeaderMap::new(), b"{}")
        };
        assert_eq!(bare(Method::POST, "/a"), raw("", "{}"), "neither an empty query nor a header counts");
        assert_eq!(bare(Method::POST, "http://host/a"), raw("", "{}"), "nor the authority");
        for other in [bare(Method::PUT, "/a"), bare(Method::POST, "/b"), bare(Method::POST, "/a/")] {
            assert!(!other.matches(&raw("", "{}")));
        }
    }

    #[test]
    fn what_cannot_be_compared_matches() {
        let (raw, canonical) = (raw("", "a"), canonical(JSON, "b"));
        assert!(raw.matches(&canonical) && canonical.matches(&raw), "a deploy changed the mode");
        assert!(raw.matches(&Fingerprint::NONE) && Fingerprint::NONE.matches(&raw));
        let damaged_none = Fingerprint { digest: [7; 32], ..Fingerprint::NONE };
        assert!(damaged_none.matches(&Fingerprint::NONE), "by its scheme, whatever the digest");
        assert_eq!(of(FingerprintMode::None, JSON, "a", b"b"), Fingerprint::NONE);
    }

    #[test]
    fn a_fallback_is_compared_with_canonical_forms_and_differs() {
        assert!(canonical(JSON, "{").matches(&canonical(JSON, "{")));
        let forms = [canonical(JSON, "1"), canonical(JSON, "1,"), canonical("text/plain", "1")];
        assert!(!forms[0].matches(&forms[1]) && !forms[0].matches(&forms[2]));
        let multipart = canonical("multipart/mixed; boundary=b", "--b\r\n\r\nx\r\n--b--");
        assert!(!multipart.matches(&canonical("text/plain", "\r\nx")), "the bytes of the only part");
    }

    #[test]
    fn the_media_type_decides_in_any_case_and_with_any_parameters() {
        for json in [JSON, "APPLICATION/JSON ; charset=utf-8", "application/problem+Json;a=b"] {
            assert_eq!(canonical(json, "[1]"), canonical(json, " [ 1 ]\n"), "{json}");
        }
        for other in ["text/plain", "application/jsonl", "json", "application/x-json+xml", ""] {
            assert_ne!(canonical(other, "[1]"), canonical(other, "[ 1]"), "{other}");
        }
        assert_eq!(
            canonical("Multipart/Form-Data; Boundary=\"a b\"", "--a b\r\n\r\nx\r\n--a b--"),
            canonical("multipart/form-data; charset=x; boundary=c", "--c\r\n\r\nx\r\n--c--\r\n"),
        );
    }

    #[test]
    fn a_part_that_changes_or_moves_makes_another_request() {
        let of = |parts: [&str; 2]| {
            let body = format!("--b\r\n{}\r\n--b\r\n{}\r\n--b--", parts[0], parts[1]);
            canonical("multipart/form-data; boundary=b", &body)
        };
        let (first, second) = ("N: a\r\n\r\nxy", "N: b\r\n\r\nz");
        let (renamed, moved) = ("N: c\r\n\r\nxy", ["N: a\r\n\r\nx", "yN: b\r\n\r\nz"]);
        for other in [[second, first], [first, first], [renamed, second], moved] {
            assert_ne!(of([first, second]), of(other));
        }
    }

    #[test]
    fn a_coded_body_or_two_content_types_count_byte_for_byte() {
        for (name, value) in [(CONTENT_ENCODING, "br"), (CONTENT_TYPE, JSON)] as [(HeaderName, &str); 2] {
            let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON.parse().unwrap())]);
            headers.append(name, value.parse().unwrap());
            let of = |body| {
                fingerprint(
                    FingerprintMode::Canonical,
                    Bind::Principal,
                    &Method::POST,
                    &uri("/"),
                    &headers,
                    body,
                )
            };
            assert_ne!(of(b"[1]"), of(b"[ 1]"));
        }
    }

    #[test]
    fn a_fingerprint_survives_the_store() {
        let bytes = std::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(Fingerprint::from_bytes(bytes).to_bytes(), bytes);
    }

    proptest! {
        #[test]
        fn no_request_panics(content_type in "(multipart/x; ?)?[ -~]{0,30}", body: Vec<u8>, query in "[a-z0-9%=&?/.-]{0,20}") {
            for bind in [Bind::Principal, Bind::Endpoint] {
                bound(bind, FingerprintMode::Canonical, &content_type, &query, &body);
            }
        }
    }
}
