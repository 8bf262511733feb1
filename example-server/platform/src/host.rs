//! The check of the `Host` header (RFC 9112, section 3.2; RFC 9110, section 7.2).
//!
//! It comes before everything else. The [envelope](crate::envelope) of the API that the path
//! belongs to renders the error response.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Version, header};

/// The hosts that the server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// All hosts. A proxy in front may use any name.
    All,
    /// The loopback names of this machine. The keys of a demo are public, so a page in a
    /// developer's browser must not reach the demo under a name of its own that resolves to this
    /// machine (DNS rebinding).
    Loopback,
}

/// The status with which the envelope refuses a request. Set in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub StatusCode);

/// Middleware that marks a request as refused: with 400 if `Host` is missing, repeated or
/// malformed, and with 421 if the host is not accepted.
pub async fn check(State(hosts): State<Hosts>, mut request: Request, next: Next) -> Response {
    let target = request.uri().authority().map(Authority::as_str);
    if let Err(status) = validate(hosts, request.version(), target, request.headers()) {
        request.extensions_mut().insert(Refused(status));
    }
    next.run(request).await
}

fn validate(
    hosts: Hosts,
    version: Version,
    target: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), StatusCode> {
    let mut values = headers.get_all(header::HOST).iter();
    let host = match (values.next(), values.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| StatusCode::BAD_REQUEST)?),
        (Some(_), Some(_)) => return Err(StatusCode::BAD_REQUEST),
        (None, _) if version >= Version::HTTP_11 => return Err(StatusCode::BAD_REQUEST),
        (None, _) => None,
    };
    // An empty value is valid: clients send it if the target URI has no authority.
    let host = host.map(|host| name_of(host).ok_or(StatusCode::BAD_REQUEST)).transpose()?;
    if hosts == Hosts::All {
        return Ok(());
    }
    // A host in the request target overrides `Host` (RFC 9112, section 3.2.2). Here, both must be
    // accepted.
    let target = target.map(|target| name_of(target).ok_or(StatusCode::BAD_REQUEST)).transpose()?;
    let names: Vec<_> = host.into_iter().chain(target).collect();
    let is_loopback =
        |name: &&str| ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| own.eq_ignore_ascii_case(name));
    let accepted = !names.is_empty() && names.iter().all(is_loopback);
    if accepted { Ok(()) } else { Err(StatusCode::MISDIRECTED_REQUEST) }
}

/// Returns the host in `uri-host [ ":" port ]`, or `None` if the text is malformed.
fn name_of(host: &str) -> Option<&str> {
    if host.is_empty() {
        return Some(host);
    }
    let authority: Authority = host.parse().ok()?;
    let name_bytes = authority.host().len();
    let (name, port) = host.split_at_checked(name_bytes)?;
    let is_port = port.strip_prefix(':').is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    // With user information before the host, the split does not fall between host and port.
    (name == authority.host() && (port.is_empty() || port.starts_with(':')) && is_port).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn status(hosts: Hosts, version: Version, target: Option<&str>, values: &[&str]) -> u16 {
        let values = values.iter().map(|value| (header::HOST, HeaderValue::from_str(value).unwrap()));
        validate(hosts, version, target, &values.collect()).map_or_else(|status| status.as_u16(), |()| 200)
    }

    #[test]
    fn a_request_of_http_1_1_has_one_host() {
        let status = |version, values: &[&str]| status(Hosts::All, version, None, values);
        for host in ["h", "h:80", "[::1]:8080", "example.com:", "", "127.0.0.1"] {
            assert_eq!(status(Version::HTTP_11, &[host]), 200, "{host}");
        }
        for host in ["user@h", "h:80:80", "h:port", "h/path", "a b", "[::1", "h, h"] {
            assert_eq!(status(Version::HTTP_11, &[host]), 400, "{host}");
        }
        assert_eq!(status(Version::HTTP_11, &[]), 400);
        assert_eq!(status(Version::HTTP_11, &["h", "h"]), 400);
        assert_eq!(status(Version::HTTP_10, &[]), 200);
        assert_eq!(status(Version::HTTP_10, &["h", "h"]), 400);
    }

    #[test]
    fn a_demo_accepts_loopback_names_only() {
        let status = |target, values: &[&str]| status(Hosts::Loopback, Version::HTTP_11, target, values);
        for host in
            ["localhost", "localhost:8080", "LocalHost:1", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8080"]
        {
            assert_eq!(status(None, &[host]), 200, "{host}");
        }
        for host in [
            "rebound.example:8080",
            "localhost.example",
            "localhost.",
            "127.0.0.1.example",
            "127.0.0.2",
            "0.0.0.0:8080",
            "[::2]",
            "::1",
            "2130706433",
            "",
        ] {
            assert!([400, 421].contains(&status(None, &[host])), "{host}");
        }
        assert_eq!(status(Some("rebound.example"), &["localhost"]), 421);
        assert_eq!(status(Some("localhost"), &["rebound.example"]), 421);
        assert_eq!(status(Some("localhost:80"), &["localhost"]), 200);
    }
}
