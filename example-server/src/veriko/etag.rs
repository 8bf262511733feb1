//! Entity tags (RFC 9110, section 8.8.3).

use std::fmt;

use http::{HeaderMap, HeaderValue, header};

use super::validation::Status;

/// The tag of a validation: `W/"3-not_found"`. Weak, because two answers with the same tag differ in their `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag {
    pub(super) version: u32,
    pub(super) status: Status,
}

impl ETag {
    /// Whether the request says, in `If-None-Match`, that it holds what has this tag: the answer is 304 then.
    pub fn none_match_fails(self, headers: &HeaderMap) -> bool {
        is_held(&self.opaque(), headers)
    }

    fn opaque(self) -> String {
        format!("{}-{}", self.version, self.status)
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
        Self::from_str(&tag.to_string()).expect("digits and the text of a status make a header value")
    }
}

/// Whether `If-None-Match` names the tag with this between its quotes.
///
/// The comparison is the weak one, as the RFC wants it for this header (section 13.1.2). What is no tag matches nothing.
pub(crate) fn is_held(own: &str, headers: &HeaderMap) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.trim() == "*" || opaque_tags(value).any(|tag| tag == own))
}

/// What stands between the quotes of each tag of a list, up to where the list breaks its own grammar.
fn opaque_tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        // The grammar lets a list have empty members.
        let tag = rest.trim_start_matches([' ', '\t', ',']);
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let (opaque, after) = tag.strip_prefix('"')?.split_once('"')?;
        let after = after.trim_start_matches([' ', '\t']);
        rest = if after.is_empty() { after } else { after.strip_prefix(',')? };
        Some(opaque)
    })
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

    #[test]
    fn what_the_client_holds_is_recognised() {
        for (value, held) in [
            (r#"W/"3-not_found""#, true),
            (r#""3-not_found""#, true),
            (r#"  W/"3-not_found"  "#, true),
            ("*", true),
            (" * ", true),
            (r#"W/"2-not_found", W/"3-not_found""#, true),
            (r#""a,b",W/"3-not_found","c""#, true),
            (r#", ,W/"3-not_found","#, true),
            (r#"W/"2-not_found""#, false),
            (r#"W/"3-valid""#, false),
            (r#"W/"13-not_found""#, false),
            (r#"w/"3-not_found""#, false),
            (r#""a, W/"3-not_found""#, false),
            (r#""x W/"3-not_found""#, false),
            (r#""x" W/"3-not_found""#, false),
            ("3-not_found", false),
            (r#"W/"3-not_found"#, false),
            (r#""*""#, false),
            (r#"*, "a""#, false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, value.parse().unwrap())]);
            assert_eq!(TAG.none_match_fails(&headers), held, "{value}");
        }
    }

    #[test]
    fn a_header_sent_twice_is_one_list_and_none_is_no_match() {
        let mut headers = HeaderMap::new();
        assert!(!TAG.none_match_fails(&headers));
        for value in [r#""a""#, r#""3-not_found""#] {
            headers.append(header::IF_NONE_MATCH, value.parse().unwrap());
        }
        assert!(TAG.none_match_fails(&headers));
    }
}
