//! The stored form of a response.

use std::fmt;

use bytes::{BufMut, Bytes};
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::error::StoreError;

/// A stored response: status, headers, body and trailers, encoded in one run of bytes.
///
/// It is a copy, because a slice of the handler's response would keep the whole buffer behind it in
/// memory.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredResponse(Bytes);

/// The parts of a [`StoredResponse`].
#[derive(Clone)]
#[non_exhaustive]
pub struct ResponseParts {
    /// The status.
    pub status: StatusCode,
    /// The headers. Repeated ones keep their order.
    pub headers: HeaderMap,
    /// The body. It shares the memory of the record.
    pub body: Bytes,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

/// The first byte of the encoding. Its meaning never changes, because a store may hold records of
/// earlier releases.
const VERSION: u8 = 1;
/// The count of trailers in a response without trailers.
const NO_TRAILERS: u16 = u16::MAX;
/// The bit of a value's length that marks it as sensitive (never indexed by HTTP/2's header
/// compression).
const SENSITIVE: u32 = 1 << 31;
/// Room for the headers that a contract adds to a replay.
const MARKS: usize = 2;
const HEAD: usize = 1 + 2 + 2 + 2;

impl StoredResponse {
    /// Copies a response, without the headers that `keeps` refuses and those named by `Connection`.
    ///
    /// # Errors
    ///
    /// Returns an error if the response has more than 65,534 headers, or a header value over 2 GiB.
    pub(crate) fn encode(
        status: StatusCode,
        headers: &HeaderMap,
        keeps: impl Fn(&HeaderName) -> bool,
        body: &[u8],
        trailers: Option<&HeaderMap>,
    ) -> Result<Self, StoreError> {
        // Comparing the few names of a response is faster than a lookup.
        let has_connection = headers.keys().any(|name| name == CONNECTION);
        let named = |name: &HeaderName| {
            let mut lists = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
            lists.any(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(name.as_str())))
        };
        let kept = headers.iter().filter(|(name, _)| keeps(name) && !(has_connection && named(name)));
        let all = headers.iter().chain(trailers.into_iter().flatten());
        let most = all.map(|(name, value)| 6 + name.as_str().len() + value.len()).sum::<usize>();

        let mut bytes = Vec::with_capacity(HEAD + most + body.len());
        bytes.put_u8(VERSION);
        bytes.put_u16(status.as_u16());
        bytes.put_u32(0); // the two counts, which are known after the headers
        let kept = put_headers(&mut bytes, kept)?;
        let trailing =
            trailers.map_or(Ok(NO_TRAILERS), |trailers| put_headers(&mut bytes, trailers.iter()))?;
        bytes[3..5].copy_from_slice(&kept.to_be_bytes());
        bytes[5..HEAD].copy_from_slice(&trailing.to_be_bytes());
        bytes.put_slice(body);
        // Copies nothing unless a header was left out.
        Ok(Self(bytes.into_boxed_slice().into()))
    }

    /// Wraps the bytes that a store kept.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Returns the bytes for a store to keep.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Decodes the response.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::StoreErrorKind::Invalid) if the bytes are not an encoded response.
    pub fn decode(&self) -> Result<ResponseParts, StoreError> {
        self.parse().ok_or_else(|| StoreError::invalid("a stored response that cannot be read"))
    }

    fn parse(&self) -> Option<ResponseParts> {
        let mut rest = &self.0[..];
        let (version, status) = (take(&mut rest, 1)?[0], u16_of(&mut rest)?);
        let (headers, trailers) = (u16_of(&mut rest)?, u16_of(&mut rest)?);
        if version != VERSION {
            return None;
        }
        Some(ResponseParts {
            status: StatusCode::from_u16(status).ok()?,
            headers: self.headers_of(&mut rest, headers)?,
            trailers: if trailers == NO_TRAILERS {
                None
            } else {
                Some(self.headers_of(&mut rest, trailers)?)
            },
            body: self.0.slice_ref(rest),
        })
    }

    fn headers_of(&self, rest: &mut &[u8], count: u16) -> Option<HeaderMap> {
        let mut headers = HeaderMap::try_with_capacity(usize::from(count) + MARKS).ok()?;
        for _ in 0..count {
            let (name, value) = (u16_of(rest)?, u32_of(rest)?);
            let name = HeaderName::from_bytes(take(rest, name.into())?).ok()?;
            let bytes = take(rest, usize::try_from(value & !SENSITIVE).ok()?)?;
            let mut header = HeaderValue::from_maybe_shared(self.0.slice_ref(bytes)).ok()?;
            header.set_sensitive(value & SENSITIVE != 0);
            headers.try_append(name, header).ok()?;
        }
        Some(headers)
    }
}

/// Without the contents: a response may hold secrets.
impl fmt::Debug for ResponseParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseParts").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Its size only: a response may hold secrets.
impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredResponse({} bytes)", self.0.len())
    }
}

/// Writes headers and returns their number.
fn put_headers<'a>(
    bytes: &mut Vec<u8>,
    headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> Result<u16, StoreError> {
    let mut written = 0;
    for (name, value) in headers {
        let length = u32::try_from(value.len()).ok().filter(|length| length & SENSITIVE == 0);
        let length = length.ok_or_else(|| StoreError::invalid("a header value over 2 GiB"))?;
        bytes.put_u16(count(name.as_str().len())?);
        bytes.put_u32(if value.is_sensitive() { length | SENSITIVE } else { length });
        bytes.put_slice(name.as_str().as_bytes());
        bytes.put_slice(value.as_bytes());
        written += 1;
    }
    count(written)
}

fn count(n: usize) -> Result<u16, StoreError> {
    let fits = u16::try_from(n).ok().filter(|n| *n != NO_TRAILERS);
    fits.ok_or_else(|| StoreError::invalid("too many headers to store"))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn u16_of(rest: &mut &[u8]) -> Option<u16> {
    take(rest, 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header_map() -> impl Strategy<Value = HeaderMap> {
        let name = "[a-z][a-z0-9-]{0,20}".prop_map(|name| name.parse::<HeaderName>().unwrap());
        let byte = prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff];
        let value = (proptest::collection::vec(byte, 0..40), any::<bool>()).prop_map(|(bytes, sensitive)| {
            let mut value = HeaderValue::from_bytes(&bytes).unwrap();
            value.set_sensitive(sensitive);
            value
        });
        proptest::collection::vec((name, value), 0..20).prop_map(|headers| headers.into_iter().collect())
    }

    fn shown(headers: &HeaderMap) -> Vec<(String, Vec<u8>, bool)> {
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.as_bytes().to_vec(), value.is_sensitive())
        };
        headers.iter().map(shown).collect()
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_byte(
            status in 100_u16..1000,
            headers in header_map(),
            trailers in proptest::option::of(header_map()),
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let status = StatusCode::from_u16(status).unwrap();
            let stored = StoredResponse::encode(status, &headers, |_| true, &body, trailers.as_ref()).unwrap();
            let parts = StoredResponse::from_bytes(stored.as_bytes().clone()).decode().unwrap();
            prop_assume!(!headers.contains_key(CONNECTION));
            prop_assert_eq!(parts.status, status);
            prop_assert_eq!(shown(&parts.headers), shown(&headers));
            prop_assert_eq!(parts.trailers.as_ref().map(shown), trailers.as_ref().map(shown));
            prop_assert_eq!(parts.body, body);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in any::<bool>()) {
            let mut bytes = bytes;
            if let (true, Some(first)) = (version, bytes.first_mut()) {
                *first = VERSION;
            }
            let _ = StoredResponse::from_bytes(bytes.into()).decode();
        }
    }

    #[test]
    fn a_cut_or_foreign_record_is_an_error() {
        let headers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("\"1\""))]);
        let stored = StoredResponse::encode(StatusCode::OK, &headers, |_| true, b"", None).unwrap();
        for length in 0..stored.as_bytes().len() {
            assert!(
                StoredResponse::from_bytes(stored.as_bytes().slice(..length)).decode().is_err(),
                "{length}"
            );
        }
        let mut foreign = stored.as_bytes().to_vec();
        foreign[0] = VERSION + 1;
        assert!(StoredResponse::from_bytes(foreign.into()).decode().is_err());
    }

    #[test]
    fn headers_named_by_connection_belong_to_it() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close, X-Hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers.insert("x-end", HeaderValue::from_static("1"));
        let stored =
            StoredResponse::encode(StatusCode::OK, &headers, |name| name != CONNECTION, b"", None).unwrap();
        assert_eq!(shown(&stored.decode().unwrap().headers), [("x-end".to_owned(), b"1".to_vec(), false)]);
    }
}
