//! The parts of a multipart body (RFC 2046, section 5.1.1), without the boundary.

use memchr::{memchr, memchr2, memmem};

/// RFC 2046, section 5.1.1: a boundary is 1 to 70 characters.
const MAX_BOUNDARY: usize = 70;

/// Splits a `Content-Type` into the media type and the rest, which is empty or begins with a
/// semicolon.
pub(super) fn split_content_type(content_type: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b';', content_type).unwrap_or(content_type.len());
    let (media_type, parameters) = content_type.split_at(end);
    (media_type.trim_ascii(), parameters)
}

/// Returns the boundary from the parameters of a `Content-Type`. `None` if there is none, more than
/// one, or an ambiguous one.
///
/// An unquoted boundary ends only at a semicolon, because clients send `=`, `/` and `:` in it,
/// which are not allowed in a token.
pub(super) fn boundary(parameters: &[u8]) -> Option<&[u8]> {
    // No boundary needs a quoted pair, and without them a quoted string ends at the next quote.
    if memchr(b'\\', parameters).is_some() {
        return None;
    }
    let mut found = None;
    let mut rest = parameters;
    while !rest.is_empty() {
        rest = rest.strip_prefix(b";")?.trim_ascii_start();
        let (name, after) = rest.split_at(memchr2(b'=', b';', rest).unwrap_or(rest.len()));
        let Some(after) = after.strip_prefix(b"=") else {
            rest = after; // an empty parameter, as after a last semicolon
            continue;
        };
        let value;
        (value, rest) = if let Some(quoted) = after.strip_prefix(b"\"") {
            let end = memchr(b'"', quoted)?;
            (&quoted[..end], quoted[end + 1..].trim_ascii_start())
        } else {
            let end = memchr(b';', after).unwrap_or(after.len());
            (after[..end].trim_ascii_end(), &after[end..])
        };
        if name.eq_ignore_ascii_case(b"boundary") && found.replace(value).is_some() {
            return None;
        }
    }
    found.filter(|boundary| (1..=MAX_BOUNDARY).contains(&boundary.len()))
}

/// Returns the parts of `body`, each with its header block, the empty line and its content. `None`
/// if the body is not well formed.
///
/// A part is hashed as one piece, because its bytes show where its header block ends. A multipart
/// inside a part is ordinary content, including its boundary.
pub(super) fn parts<'a>(boundary: &[u8], body: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let delimiter = [b"\r\n--", boundary].concat();
    // The text before the first delimiter is ignored. So it must not contain a delimiter that a
    // laxer parser would accept, such as one after a bare line feed.
    let first = memmem::find(body, &delimiter[2..])?;
    if first > 0 && !body[..first].ends_with(b"\r\n") {
        return None;
    }
    let delimiter = memmem::Finder::new(&delimiter);
    let mut parts = Vec::new();
    let mut rest = &body[first + delimiter.needle().len() - 2..];
    loop {
        let closed = rest.strip_prefix(b"--");
        let line_end = skip_padding(closed.unwrap_or(rest));
        if closed.is_some() {
            return (line_end.is_empty() || line_end.starts_with(b"\r\n")).then_some(parts);
        }
        let part = line_end.strip_prefix(b"\r\n")?;
        let end = delimiter.find(part)?;
        parts.push(&part[..end]);
        rest = &part[end + delimiter.needle().len()..];
    }
}

/// Transport padding: white space that a gateway may have added to a delimiter line.
fn skip_padding(mut line: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = line {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn boundary_of(content_type: &str) -> Option<&str> {
        let (_, parameters) = split_content_type(content_type.as_bytes());
        boundary(parameters).map(|boundary| str::from_utf8(boundary).unwrap())
    }

    fn body(boundary: &str, parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let mut body = Vec::new();
        for part in parts {
            body.extend([b"--", boundary.as_bytes(), b"\r\n", part.as_ref(), b"\r\n"].concat());
        }
        body.extend([b"--", boundary.as_bytes(), b"--\r\n"].concat());
        body
    }

    fn cut(body: &str) -> Option<Vec<&str>> {
        parts(b"b", body.as_bytes())?.into_iter().map(|part| str::from_utf8(part).ok()).collect()
    }

    #[test]
    fn the_boundary_is_found_quoted_or_not_whatever_stands_around_it() {
        for content_type in [
            "multipart/form-data; boundary=a-b",
            "multipart/form-data;BOUNDARY=a-b ; charset=utf-8;",
            "multipart/related ; type=\"x; boundary=no\" ; Boundary=\"a-b\"",
            "multipart/mixed;; xboundary=no; boundary; boundary=a-b",
        ] {
            assert_eq!(boundary_of(content_type), Some("a-b"), "{content_type}");
        }
        assert_eq!(boundary_of("multipart/x; boundary=\"a b;c\""), Some("a b;c"));
        assert_eq!(boundary_of("multipart/x; boundary=--=_a/b:c"), Some("--=_a/b:c"));
        let longest = "x".repeat(MAX_BOUNDARY);
        assert_eq!(boundary_of(&format!("multipart/x; boundary={longest}")), Some(&*longest));
    }

    #[test]
    fn a_boundary_that_is_missing_doubled_or_unclear_is_none() {
        let too_long = format!("boundary={}", "x".repeat(MAX_BOUNDARY + 1));
        for parameters in [
            "",
            "boundary",
            "boundary=",
            "boundary=\"\"",
            "boundary=\"a",
            "boundary=\"a\"b",
            "boundary=\"a\\b\"",
            "boundary=a; boundary=a",
            "boundary=a; Boundary=b",
            "xboundary=a",
            "charset=\"\\\"; boundary=a\"",
            &too_long,
        ] {
            assert_eq!(boundary_of(&format!("multipart/form-data; {parameters}")), None, "{parameters}");
        }
    }

    #[test]
    fn parts_are_cut_where_rfc_2046_says() {
        let two = Some(vec!["A: 1\r\n\r\none", "\r\ntwo\r\n"]);
        assert_eq!(cut("--b\r\nA: 1\r\n\r\none\r\n--b\r\n\r\ntwo\r\n\r\n--b--\r\n"), two);
        assert_eq!(
            cut("--b \t\r\nA: 1\r\n\r\none\r\n--b  \r\n\r\ntwo\r\n\r\n--b--\t"),
            two,
            "transport padding"
        );
        assert_eq!(
            cut("preamble\r\n--b\r\nA: 1\r\n\r\none\r\n--b\r\n\r\ntwo\r\n\r\n--b--\r\n--b\r\nepilogue"),
            two
        );
        assert_eq!(cut("--b\r\n\r\n--b--"), Some(vec![""]));
        assert_eq!(cut("--b--\r\n"), Some(vec![]));
        assert_eq!(
            cut("--b\r\n\r\nx\n--b\r\ny --b\r\n--b--"),
            Some(vec!["\r\nx\n--b\r\ny --b"]),
            "not at a line's start"
        );
    }

    #[test]
    fn a_body_that_is_not_well_formed_has_no_parts() {
        for body in [
            "",
            "b",
            "--b",
            "--b\r\n",
            "--b\r\n\r\nx",
            "--b\r\n\r\nx\r\n--b",
            "--b\r\n\r\nx\r\n--b\r\n",
            "--b\n\nx\n--b--\n",
            "--b\r\n--b--",
            "--bb\r\n\r\nx\r\n--bb--",
            "--b\r\n\r\nx\r\n--b-",
            "--b\r\n\r\nx\r\n--b--x",
            "--b x\r\n\r\n--b--",
            "x--b\r\n\r\nx\r\n--b--",
            "x\n--b\r\n\r\nx\r\n--b--",
            "\n--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--",
        ] {
            assert_eq!(cut(body), None, "{body:?}");
        }
    }

    #[test]
    fn an_inner_multipart_is_content() {
        let inner = "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n";
        assert_eq!(cut(&String::from_utf8(body("b", &[inner])).unwrap()), Some(vec![inner]));
    }

    proptest! {
        #[test]
        fn the_parts_are_what_was_sent_under_any_boundary(
            sent in vec(prop_oneof![vec(any::<u8>(), 0..40), "[A-C: \r\n-]{0,20}".prop_map(String::into_bytes)], 0..5),
            boundary in "[0-9a-z'()+_,./:=? -]{7,69}[0-9]",
        ) {
            let body = body(&boundary, &sent);
            prop_assert_eq!(parts(boundary.as_bytes(), &body).unwrap(), sent);
        }

        #[test]
        fn no_bytes_panic(
            bytes in vec(any::<u8>(), 0..64), text in "(--b|\r\n|[ b-]){0,20}", parameters in "[;=\"\\\\ boundary]{0,40}",
        ) {
            parts(b"b", &bytes);
            parts(b"b", text.as_bytes());
            boundary(parameters.as_bytes());
            boundary(&bytes);
        }
    }
}
