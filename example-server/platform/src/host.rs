//! The `Host` of requests (RFC 9112, section 3.2; RFC 9110, section 7.2).
//!
//! What is wrong with it is found out before everything else, and answered by the [frame](crate::envelope), in the words of
//! the API whose path it is.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Version, header};

/// Which hosts are answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// All: a proxy in front may use any name.
    All,
    /// The names of this machine. A demo's keys are public, so a page that a developer has open must not reach it
    /// under a name of its own that leads here (DNS rebinding).
    Loopback,
}

/// Why a request is refused, whatever else it says: in its extensions, for the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub StatusCode);

/// Marks requests that are to be refused: 400 where the host is missing, there twice or none, 421 where it is not one of
/// ours.
pub async fn check(State(hosts): State<Hosts>, mut request: Request, next: Next) -> Response {
    let named = request.uri().authority().map(Authority::as_str);
    if let Err(status) = judge(hosts, request.version(), named, request.headers()) {
        request.extensions_mut().insert(Refused(status));
    }
    next.run(request).await
}

fn judge(
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
    // Empty where the target has no authority, which none of ours is without.
    let host = host.map(|host| name_of(host).ok_or(StatusCode::BAD_REQUEST)).transpose()?;
    if hosts == Hosts::All {
        return Ok(());
    }
    // A target that names a host itself counts instead (RFC 9112, section 3.2.2); here both have to be ours.
    let target = target.map(|target| name_of(target).ok_or(StatusCode::BAD_REQUEST)).transpose()?;
    let named: Vec<_> = host.into_iter().chain(target).collect();
    let ours =
        |name: &&str| ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| own.eq_ignore_ascii_case(name));
    if !named.is_empty() && named.iter().all(ours) { Ok(()) } else { Err(StatusCode::MISDIRECTED_REQUEST) }
}

/// The name in `uri-host [ ":" port ]`; `None` if it is not that.
fn name_of(host: &str) -> Option<&str> {
    if host.is_empty() {
        return Some(host);
    }
    let authority: Authority = host.parse().ok()?;
    let name_bytes = authority.host().len();
    let (name, port) = host.split_at_checked(name_bytes)?;
    let is_port = port.strip_prefix(':').is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    // Another length than that of a name and a port has a user before them.
    (name == authority.host() && (port.is_empty() || port.starts_with(':')) && is_port).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judged(hosts: Hosts, version: Version, target: Option<&str>, values: &[&str]) -> u16 {
        let values = values.iter().map(|value| (header::HOST, HeaderValue::from_str(value).unwrap()));
        judge(hosts, version, target, &values.collect()).map_or_else(|status| status.as_u16(), |()| 200)
    }

    #[test]
    fn a_request_of_http_1_1_has_one_host() {
        let judged = |version, values: &[&str]| judged(Hosts::All, version, None, values);
        for host in ["h", "h:80", "[::1]:8080", "example.com:", "", "127.0.0.1"] {
            assert_eq!(judged(Version::HTTP_11, &[host]), 200, "{host}");
        }
        for host in ["user@h", "h:80:80", "h:port", "h/path", "a b", "[::1", "h, h"] {
            assert_eq!(judged(Version::HTTP_11, &[host]), 400, "{host}");
        }
        assert_eq!(judged(Version::HTTP_11, &[]), 400);
        assert_eq!(judged(Version::HTTP_11, &["h", "h"]), 400);
        assert_eq!(judged(Version::HTTP_10, &[]), 200);
        assert_eq!(judged(Version::HTTP_10, &["h", "h"]), 400);
    }

    #[test]
    fn a_demo_answers_for_loopback_names_only() {
        let judged = |target, values: &[&str]| judged(Hosts::Loopback, Version::HTTP_11, target, values);
        for host in
            ["localhost", "localhost:8080", "LocalHost:1", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8080"]
        {
            assert_eq!(judged(None, &[host]), 200, "{host}");
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
            assert!([400, 421].contains(&judged(None, &[host])), "{host}");
        }
        assert_eq!(judged(Some("rebound.example"), &["localhost"]), 421);
        assert_eq!(judged(Some("localhost"), &["rebound.example"]), 421);
        assert_eq!(judged(Some("localhost:80"), &["localhost"]), 200);
    }
}
