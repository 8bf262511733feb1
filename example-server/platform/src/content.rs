//! The content headers of requests (RFC 9110, sections 8.3 and 8.4).

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

/// Middleware that responds with 415 to a body with a `Content-Encoding`, which the server does not
/// decode, or in a character set other than UTF-8. Handlers would misread such a body. The response
/// has no body; the API's envelope adds the API's error body.
pub async fn refuse_encoded(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    if is_coded(request.headers()) {
        // The codings that the server accepts (section 12.5.3).
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, [(header::ACCEPT_ENCODING, "identity")]).into_response();
    }
    if is_in_another_charset(request.headers()) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    next.run(request).await
}

/// Returns whether the body has a coding other than `identity`.
fn is_coded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| {
        let Ok(codings) = value.to_str() else { return true };
        codings
            .split(',')
            .map(str::trim)
            .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
    })
}

/// Returns whether the body is in a character set other than UTF-8. In a multipart body, each part
/// has its own, so this function does not check it.
fn is_in_another_charset(headers: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let (media_type, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    if media_type.trim().to_ascii_lowercase().starts_with("multipart/") {
        return false;
    }
    parameter(rest, "charset")
        .is_some_and(|charset| Charset::named(&charset).is_none_or(|named| named != Charset::Utf8))
}

/// A supported character set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8, including its subset ASCII.
    Utf8,
    Latin1,
}

impl Charset {
    /// Returns the character set with this name, in any case, or `None` if it is not supported.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" | "us-ascii" | "ascii" => Some(Self::Utf8),
            "iso-8859-1" | "latin1" => Some(Self::Latin1),
            _ => None,
        }
    }

    /// Decodes bytes. Returns `None` if they are not valid in this character set.
    pub fn decode(self, bytes: Vec<u8>) -> Option<String> {
        match self {
            Self::Utf8 => String::from_utf8(bytes).ok(),
            Self::Latin1 => Some(bytes.into_iter().map(char::from).collect()),
        }
    }
}

/// Returns the value of a parameter after a media type or a disposition: `name=token` or
/// `name="text"`, with names in any case (RFC 9110, section 5.6.6). If a name occurs twice, the
/// first one counts.
pub fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (found, after) = rest.split_once('=')?;
        let after = after.trim_start_matches([' ', '\t']);
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            quoted_text(quoted)?
        } else {
            let end = after.find(';').unwrap_or(after.len());
            (after[..end].trim_matches([' ', '\t']).to_owned(), &after[end..])
        };
        // Skip names without a value: in `; a; b=c`, the name starts after the last semicolon.
        let found = found.rsplit(';').next().unwrap_or_default().trim_matches([' ', '\t']);
        if found.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// Parses a text up to its closing quote. Returns it and the rest.
///
/// A backslash escapes a quote or a backslash. Before any other character, it is literal: browsers
/// escape nothing else, and old Windows paths contain single backslashes.
fn quoted_text(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((text, &quoted[place + 1..])),
            '\\' if quoted[place + 1..].starts_with(['"', '\\']) => {
                text.extend(characters.next().map(|(_, escaped)| escaped));
            }
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn every_coding_but_identity_is_one() {
        for (values, coded) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity, "], false),
            (&[""], false),
            (&["gzip"], true),
            (&["GZIP"], true),
            (&["identity, br"], true),
            (&["identity", "deflate"], true),
        ] {
            assert_eq!(is_coded(&headers(&header::CONTENT_ENCODING, values)), coded, "{values:?}");
        }
    }

    #[test]
    fn json_comes_in_utf_8() {
        for (value, another) in [
            ("application/json", false),
            ("application/json; charset=utf-8", false),
            ("application/json;charset=\"UTF-8\"", false),
            ("APPLICATION/JSON ; Charset=US-ASCII", false),
            ("application/x-www-form-urlencoded", false),
            ("application/json; charset=utf-16", true),
            ("application/json; profile=\"a;charset=utf-8\"; CHARSET=ISO-8859-1", true),
            ("text/plain; charset=windows-1252", true),
            ("multipart/form-data; boundary=x; charset=utf-16", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_in_another_charset(&headers(&header::CONTENT_TYPE, &[value])), another, "{value}");
        }
    }

    #[test]
    fn parameters_are_found_by_name_whatever_their_case_and_quotes() {
        for (parameters, name, value) in [
            ("; name=\"to\"", "name", Some("to")),
            ("; NAME=to", "name", Some("to")),
            (" ;Name = to ; x=y", "name", Some("to")),
            ("; filename=\"name=x;y.txt\"; name=to", "name", Some("to")),
            ("; filename=\"a\\\"b\\\\c\"", "filename", Some("a\"b\\c")),
            ("; filename=\"C:\\fax\\a.txt\"", "filename", Some("C:\\fax\\a.txt")),
            ("; filename=\"\"", "filename", Some("")),
            ("; flag; name=to", "name", Some("to")),
            ("; filename=\"open", "filename", None),
            ("; xname=to", "name", None),
            ("", "name", None),
        ] {
            assert_eq!(parameter(parameters, name).as_deref(), value, "{parameters}");
        }
    }
}
