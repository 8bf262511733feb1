use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const STRICT: Rules = Rules { allow_http: false, allow_private: false };
const LOCAL: Rules = Rules { allow_http: true, allow_private: true };
const TIME: Duration = Duration::from_secs(10);

/// Returns its answers one after the other, and then the last one forever.
struct Script(Mutex<VecDeque<Vec<IpAddr>>>);

impl Script {
    fn of(answers: &[&[&str]]) -> Arc<Self> {
        let answer = |addresses: &&[&str]| addresses.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(answer).collect())))
    }
}

#[async_trait]
impl Lookup for Script {
    async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        answer.ok_or_else(|| io::Error::other("no such name"))
    }
}

fn outbound(rules: Rules) -> Outbound {
    Outbound::new(rules).unwrap()
}

/// Starts a server that sends this response to each connection. Returns its port and the requests
/// that it receives, up to the first read of each.
async fn server(answer: &'static [u8]) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = connection.read(&mut request).await.unwrap_or_default();
            let _ = heard.send(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = connection.write_all(answer).await;
        }
    });
    (port, requests)
}

#[test]
fn a_url_is_https_and_leads_to_the_public_internet() {
    let outbound = outbound(STRICT);
    for url in [
        "https://example.com/hook",
        "https://example.com:8443/a?b=c#d",
        "https://1.1.1.1/",
        "https://[2600::1]/",
    ] {
        assert!(outbound.check(url).is_ok(), "{url}");
    }
    for (url, error) in [
        ("", UrlError::Invalid),
        ("hook", UrlError::Invalid),
        ("https://", UrlError::Invalid),
        ("https://user@example.com/", UrlError::Invalid),
        ("https://:secret@example.com/", UrlError::Invalid),
        ("http://example.com/", UrlError::Scheme),
        ("ftp://example.com/", UrlError::Scheme),
        ("file:///etc/passwd", UrlError::Scheme),
        ("data:text/plain,x", UrlError::Scheme),
        ("https://localhost/", UrlError::Blocked),
        ("https://LOCALHOST./", UrlError::Blocked),
        ("https://a.localhost/", UrlError::Blocked),
        ("https://127.0.0.1/", UrlError::Blocked),
        ("https://127.1/", UrlError::Blocked),
        ("https://0x7f000001/", UrlError::Blocked),
        ("https://2130706433/", UrlError::Blocked),
        ("https://0177.0.0.1/", UrlError::Blocked),
        ("https://%31%32%37.0.0.1/", UrlError::Blocked),
        ("https://①②⑦.0.0.1/", UrlError::Blocked),
        ("https://169.254.169.254/latest/meta-data", UrlError::Blocked),
        ("https://[::1]/", UrlError::Blocked),
        ("https://[::ffff:10.0.0.1]/", UrlError::Blocked),
    ] {
        assert_eq!(outbound.check(url), Err(error), "{url}");
    }
    let path = |length: usize| format!("https://example.com/{}", "a".repeat(length - 20));
    assert!(outbound.check(&path(2048)).is_ok());
    assert_eq!(outbound.check(&path(2049)), Err(UrlError::TooLong));
}

#[test]
fn http_and_private_addresses_are_allowed_one_by_one() {
    let http = outbound(Rules { allow_http: true, allow_private: false });
    assert!(http.check("http://example.com/").is_ok());
    assert_eq!(http.check("http://127.0.0.1/"), Err(UrlError::Blocked));
    let private = outbound(Rules { allow_http: false, allow_private: true });
    assert!(private.check("https://127.0.0.1/").is_ok());
    assert_eq!(private.check("http://127.0.0.1/"), Err(UrlError::Scheme));
    assert_eq!(outbound(LOCAL).check("file:///etc/passwd"), Err(UrlError::Scheme));
}

#[tokio::test]
async fn a_name_is_vetted_by_its_addresses() {
    for (answers, expected) in [
        (&[&["1.1.1.1"][..]][..], Ok(())),
        (&[&["10.0.0.1", "1.1.1.1"]], Ok(())),
        (&[&["10.0.0.1", "::1"]], Err(OutboundError::Url(UrlError::Blocked))),
        (&[&[]], Err(OutboundError::UnknownHost)),
        (&[], Err(OutboundError::UnknownHost)),
    ] {
        let outbound = Outbound::with_lookup(STRICT, Script::of(answers)).unwrap();
        let url = outbound.check("https://example.com/").unwrap();
        assert_eq!(outbound.vet(&url).await, expected, "{answers:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_public_when_checked_and_private_when_called_is_not_called() {
    let (port, mut requests) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let rules = Rules { allow_http: true, allow_private: false };
    let outbound = Outbound::with_lookup(rules, Script::of(&[&["1.1.1.1"], &["127.0.0.1", "::1"]])).unwrap();
    let url = outbound.check(&format!("http://rebinding.example:{port}/")).unwrap();
    assert_eq!(outbound.vet(&url).await, Ok(()));
    let answer = outbound.get(&url, 10, TIME).await.unwrap_err();
    assert_eq!(answer, OutboundError::Url(UrlError::Blocked));
    let answer = outbound.post(&url, HeaderMap::new(), Bytes::new(), 10, TIME).await.unwrap_err();
    assert_eq!(answer, OutboundError::Url(UrlError::Blocked));
    assert!(requests.try_recv().is_err(), "nobody was called");
}

#[tokio::test]
async fn a_private_address_of_a_name_that_also_has_a_public_one_is_never_used() {
    let lookup = Script::of(&[&["127.0.0.1", "1.1.1.1", "::ffff:127.0.0.1", "169.254.169.254"]]);
    let guard = Guard { lookup, rules: STRICT };
    let handed = reqwest::dns::Resolve::resolve(&guard, "both.example".parse().unwrap()).await.unwrap();
    let handed: Vec<_> = handed.map(|address| address.ip().to_string()).collect();
    assert_eq!(handed, ["1.1.1.1"]);
}

#[tokio::test]
async fn a_url_that_was_checked_under_other_rules_is_checked_again() {
    let (port, mut requests) = server(b"").await;
    let url = outbound(LOCAL).check(&format!("http://127.0.0.1:{port}/")).unwrap();
    let strict = outbound(Rules { allow_http: true, allow_private: false });
    let answer = strict.get(&url, 10, TIME).await.unwrap_err();
    assert_eq!(answer, OutboundError::Url(UrlError::Blocked));
    assert!(requests.try_recv().is_err(), "nobody was called");
}

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let (port, mut requests) =
        server(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n").await;
    let url = outbound(LOCAL).check(&format!("http://127.0.0.1:{port}/here")).unwrap();
    let answer = outbound(LOCAL).get(&url, 10, TIME).await.unwrap();
    assert_eq!(answer.status, 302);
    assert!(requests.recv().await.unwrap().starts_with("GET /here "));
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn a_document_over_the_limit_is_refused_and_a_receipt_is_truncated() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n0123456789";
    const UNANNOUNCED: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n0123456789";
    let outbound = outbound(LOCAL);
    for answer in [ANSWER, UNANNOUNCED] {
        let (port, _requests) = server(answer).await;
        let url = outbound.check(&format!("http://127.0.0.1:{port}/")).unwrap();
        assert_eq!(outbound.get(&url, 10, TIME).await.unwrap().body, "0123456789");
        assert_eq!(outbound.get(&url, 9, TIME).await.unwrap_err(), OutboundError::TooLarge);
        let receipt = outbound.post(&url, HeaderMap::new(), "x".into(), 4, TIME).await.unwrap();
        assert_eq!(receipt.body, "0123");
    }
}

#[tokio::test]
async fn a_time_out_and_a_failed_connection_are_distinct_errors() {
    let outbound = outbound(LOCAL);
    // The kernel accepts the connection, and nobody responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let url = outbound.check(&url).unwrap();
    let waited = outbound.get(&url, 10, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(waited, OutboundError::Timeout);
    drop(silent);
    assert_eq!(outbound.get(&url, 10, TIME).await.unwrap_err(), OutboundError::Unreachable);
}
