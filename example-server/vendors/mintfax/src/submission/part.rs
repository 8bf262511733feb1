//! Parsing of a form part's header (RFC 7578).

use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName};

use platform::content::{Charset, parameter};

/// The relevant fields of a part's header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartHead {
    /// The name of the field.
    pub(super) name: Option<String>,
    /// Whether the part is a file.
    pub(super) is_file: bool,
    /// The character set of the text. `None`: an unsupported one.
    pub(super) charset: Option<Charset>,
    /// Whether the content has a transfer or content encoding, which is not supported.
    pub(super) is_encoded: bool,
}

const CONTENT_TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

impl PartHead {
    /// Reads the header. The given character set is the default.
    pub(super) fn read(headers: &HeaderMap, charset: Option<Charset>) -> Self {
        let parameters = |name| {
            let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            value.and_then(|value| Some(value.split_once(';')?.1.to_owned())).unwrap_or_default()
        };
        let (disposition, content_type) = (parameters(CONTENT_DISPOSITION), parameters(CONTENT_TYPE));
        Self {
            name: extended(&disposition, "name").map(|name| percent_decoded(&name)),
            // The file name itself is ignored; only its presence matters.
            is_file: extended(&disposition, "filename").is_some(),
            charset: parameter(&content_type, "charset").map_or(charset, |name| Charset::named(&name)),
            is_encoded: !all_are(headers, &CONTENT_TRANSFER_ENCODING, &["7bit", "8bit", "binary"])
                || !all_are(headers, &CONTENT_ENCODING, &["identity"]),
        }
    }
}

/// Returns a parameter, or its extended form with a character set (`name*=UTF-8''…`, RFC 8187).
/// Forms must not use the extended form, but some clients do.
fn extended(disposition: &str, name: &str) -> Option<String> {
    parameter(disposition, name).or_else(|| {
        let value = parameter(disposition, &format!("{name}*"))?;
        Some(value.splitn(3, '\'').nth(2)?.to_owned())
    })
}

/// Decodes the octets that clients percent-encode in names (RFC 7578, section 2).
fn percent_decoded(name: &str) -> String {
    // A `+` stands for itself in a name.
    let name = name.replace('+', "%2B");
    form_urlencoded::parse(format!("x={}", name.replace('&', "%26")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// Returns whether every value of the header is one of these.
fn all_are(headers: &HeaderMap, name: &HeaderName, known: &[&str]) -> bool {
    headers.get_all(name).iter().all(|value| {
        value.to_str().is_ok_and(|text| {
            let mut named = text.split(',').map(str::trim).filter(|named| !named.is_empty());
            named.all(|named| known.iter().any(|known| known.eq_ignore_ascii_case(named)))
        })
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(lines: &[(HeaderName, &str)]) -> PartHead {
        let headers = lines
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        PartHead::read(&headers.collect(), Some(Charset::Utf8))
    }

    #[test]
    fn the_field_name_is_read_in_every_notation() {
        for disposition in [
            "form-data; name=\"to\"",
            "form-data; name=to",
            "Form-Data; NAME=\"to\"",
            "form-data;Name = \"to\"",
            "form-data; filename=\"name=x\"; name=\"to\"",
            "form-data; name*=UTF-8''to",
            "form-data; name=\"%74o\"",
        ] {
            assert_eq!(
                head(&[(CONTENT_DISPOSITION, disposition)]).name.as_deref(),
                Some("to"),
                "{disposition}"
            );
        }
        assert_eq!(head(&[(CONTENT_DISPOSITION, "form-data")]).name, None);
        assert_eq!(
            head(&[(CONTENT_DISPOSITION, "form-data; name=\"a+b&c\"")]).name.as_deref(),
            Some("a+b&c")
        );
    }

    #[test]
    fn a_part_with_a_file_name_is_a_file() {
        for (disposition, is_file) in [
            ("form-data; name=file; filename=\"a.pdf\"", true),
            ("form-data; name=file; FileName=a.pdf", true),
            ("form-data; name=file; filename=\"\"", true),
            ("form-data; name=file; filename*=utf-8'es'se%C3%B1or.pdf", true),
            ("form-data; name=\"filename\"", false),
        ] {
            assert_eq!(head(&[(CONTENT_DISPOSITION, disposition)]).is_file, is_file, "{disposition}");
        }
    }

    #[test]
    fn encodings_that_change_the_content_are_detected() {
        for (name, value, is_encoded) in [
            (CONTENT_TRANSFER_ENCODING, "binary", false),
            (CONTENT_TRANSFER_ENCODING, "8BIT", false),
            (CONTENT_TRANSFER_ENCODING, "base64", true),
            (CONTENT_TRANSFER_ENCODING, "Quoted-Printable", true),
            (CONTENT_TRANSFER_ENCODING, "x-unknown", true),
            (CONTENT_ENCODING, "identity", false),
            (CONTENT_ENCODING, "gzip", true),
        ] {
            assert_eq!(head(&[(name, value)]).is_encoded, is_encoded, "{value}");
        }
    }

    #[test]
    fn the_character_set_is_read_from_the_content_type() {
        for (value, charset) in [
            ("text/plain", Some(Charset::Utf8)),
            ("text/plain; charset=\"ISO-8859-1\"", Some(Charset::Latin1)),
            ("text/plain;CHARSET=Utf-8", Some(Charset::Utf8)),
            ("text/plain; charset=ebcdic", None),
        ] {
            assert_eq!(head(&[(CONTENT_TYPE, value)]).charset, charset, "{value}");
        }
    }
}
