//! Entity tags (RFC 9110, section 8.8.3).

use std::fmt;

use http::{HeaderMap, HeaderValue};
use platform::etag::if_none_match;

use super::validation::{Status, Validation};

/// The entity tag of a validation: `W/"3-not_found"`. It is weak, because two responses with the
/// same tag have a different `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag {
    pub(super) version: u32,
    pub(super) status: Status,
}

impl ETag {
    /// Returns whether `If-None-Match` has this tag, so that the response is 304.
    pub fn none_match_fails(self, headers: &HeaderMap) -> bool {
        if_none_match(headers, &self.opaque())
    }

    fn opaque(self) -> String {
        format!("{}-{}", self.version, self.status)
    }
}

impl Validation {
    /// Returns the tag of the present state.
    pub fn etag(&self) -> ETag {
        ETag { version: self.etag_version, status: self.status }
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "W/\"{}\"", self.opaque())
    }
}

/// The value of the `ETag` header.
impl From<ETag> for HeaderValue {
    fn from(tag: ETag) -> Self {
        Self::from_str(&tag.to_string()).expect("digits and a status are a valid header value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: ETag = ETag { version: 3, status: Status::NotFound };

    #[test]
    fn a_tag_is_version_and_status() {
        assert_eq!(HeaderValue::from(TAG), "W/\"3-not_found\"");
        assert_eq!(HeaderValue::from(ETag { version: 0, status: Status::Queued }), "W/\"0-queued\"");
    }
}
