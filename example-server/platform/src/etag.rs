//! Conditional requests (RFC 9110, section 13.1.2).
//!
//! The crate `headers` (0.4.2) reads this header too, but panics in debug builds if a client sends a
//! tag with a space, and requires a second version of the SHA-1 crate.

use http::{HeaderMap, header};

/// Returns whether `If-None-Match` lists the entity tag whose opaque part, between the quotes, is
/// `own`.
///
/// The comparison is weak, as the RFC requires for this header (section 13.1.2). A malformed tag
/// matches nothing.
pub fn if_none_match(headers: &HeaderMap, own: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.trim() == "*" || opaque_tags(value).any(|tag| tag == own))
}

/// Returns the opaque part of each tag in a list, up to the first syntax error.
fn opaque_tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        // The grammar allows empty list elements.
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

    #[test]
    fn the_tag_that_the_client_has_is_recognised() {
        for (value, matches) in [
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
            assert_eq!(if_none_match(&headers, "3-not_found"), matches, "{value}");
        }
    }

    #[test]
    fn a_repeated_header_is_one_list_and_a_missing_one_matches_nothing() {
        let mut headers = HeaderMap::new();
        assert!(!if_none_match(&headers, "3-not_found"));
        for value in [r#""a""#, r#""3-not_found""#] {
            headers.append(header::IF_NONE_MATCH, value.parse().unwrap());
        }
        assert!(if_none_match(&headers, "3-not_found"));
    }
}
