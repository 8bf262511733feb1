//! Conditional requests (RFC 9110, section 13.1.2).

use http::{HeaderMap, header};

/// Returns whether `If-None-Match` names the tag whose text between the quotes is `own`.
///
/// The comparison is the weak one, as the RFC wants it for this header (section 13.1.2). What is no tag matches nothing.
pub fn if_none_match(headers: &HeaderMap, own: &str) -> bool {
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
            assert_eq!(if_none_match(&headers, "3-not_found"), held, "{value}");
        }
    }

    #[test]
    fn a_header_sent_twice_is_one_list_and_none_is_no_match() {
        let mut headers = HeaderMap::new();
        assert!(!if_none_match(&headers, "3-not_found"));
        for value in [r#""a""#, r#""3-not_found""#] {
            headers.append(header::IF_NONE_MATCH, value.parse().unwrap());
        }
        assert!(if_none_match(&headers, "3-not_found"));
    }
}
