//! The page's table of three APIs, held against what their contracts do and what clients of them are told to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use account_retry_policy::client::Retries;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use idempotency_layer::{Contract, IdempotencyLayer, MemoryStore};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower::ServiceExt;
use tower::retry::Policy;

use super::PAGE;

#[tokio::test]
async fn the_table_of_the_three_apis_says_what_their_contracts_do() {
    let shown = table();
    let apis = [
        ("Veriko", Contract::veriko(), "`Retries::new()`", Retries::new()),
        ("TXCloud", Contract::txcloud(), "`Retries::new()`", Retries::new()),
        ("mintfax", Contract::mintfax(), "`Retries::mintfax()`", Retries::mintfax()),
    ];
    for (column, (name, contract, in_rust, retries)) in apis.into_iter().enumerate() {
        let ttl = format!("{contract:?}");
        let api = Api::of(contract);
        let invalid = api.ask(Ask { key: "", ..ASK }).await.status();
        let rows = [
            ("", name.to_owned()),
            ("`Idempotency-Key`", api.keys().await),
            ("a malformed key", invalid.as_u16().to_string()),
            ("the same key on a different path", api.elsewhere().await),
            ("with a different body", api.reused().await),
            ("while the first try runs", api.in_progress().await),
            ("stored statuses", api.stored().await),
            ("header of a replay", api.replayed().await),
            ("kept for", if ttl.contains("ttl: 86400s") { "24 h".to_owned() } else { ttl }),
            ("retry after", tried_again(&retries)),
            ("in Rust", in_rust.to_owned()),
            ("after correcting a refused request (400, 402, 422)", api.corrected().await),
        ];
        for (row, done) in rows {
            let shown = &shown.get(row).unwrap_or_else(|| panic!("no row {row:?}"))[column];
            assert_eq!(shown.to_lowercase(), done.to_lowercase(), "{name}, {row}");
        }
    }
}

/// The rows by their first cells.
fn table() -> BTreeMap<&'static str, Vec<&'static str>> {
    let rows =
        PAGE.lines().skip_while(|line| !line.contains("| Veriko |")).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim));
    cells.map(|mut cells| (cells.next().expect("a row has cells"), cells.collect())).collect()
}

/// Handlers that answer as they are told, behind a contract.
struct Api(Router, tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<()>>);

#[derive(Clone, Copy)]
struct Ask<'a> {
    path: &'a str,
    key: &'a str,
    body: &'a str,
    /// What the handler answers. 0: nothing, ever.
    status: u16,
}

const ASK: Ask<'_> = Ask { path: "/", key: "a-key-of-one", body: "", status: 200 };

impl Api {
    fn of(contract: Contract) -> Self {
        let layer =
            IdempotencyLayer::builder(MemoryStore::default()).contract(contract).single_tenant().build();
        let (begun, begins) = unbounded_channel();
        Self(Router::new().fallback(answer).layer(layer).with_state(begun), begins.into())
    }

    async fn ask(&self, ask: Ask<'_>) -> Response {
        let request = Request::post(ask.path).header("idempotency-key", ask.key).header("status", ask.status);
        let request = request.body(Body::from(ask.body.to_owned())).expect("a request");
        let Ok(response) = self.0.clone().oneshot(request).await;
        response
    }

    /// Whether the handler ran for it.
    async fn runs(&self, ask: Ask<'_>) -> bool {
        let mut begins = self.1.lock().await;
        while begins.try_recv().is_ok() {}
        self.ask(ask).await;
        begins.try_recv().is_ok()
    }

    /// Which keys are taken.
    async fn keys(&self) -> String {
        let mut lengths = Vec::new();
        for length in 1..=300 {
            if self.runs(Ask { key: &"l".repeat(length), ..ASK }).await {
                lengths.push(length);
            }
        }
        let (least, most) = (lengths[0], lengths[lengths.len() - 1]);
        assert_eq!(lengths.len(), most - least + 1, "a gap");
        let mut others = String::new();
        for byte in b'!'..=b'~' {
            if self.runs(Ask { key: &format!("characters{}", char::from(byte)), ..ASK }).await {
                others.push(char::from(byte));
            }
        }
        let all: String = (b'!'..=b'~').map(char::from).collect();
        if others == all {
            return format!("{least}–{most} characters, any");
        }
        let alphanumeric = others.chars().filter(char::is_ascii_alphanumeric).count();
        assert_eq!(alphanumeric, 62, "{others}");
        others.retain(|c| !c.is_ascii_alphanumeric());
        let others = others.chars().fold(String::new(), |text, c| text + " " + &c.to_string());
        format!("{least}–{most} of `A-Z a-z 0-9{others}`")
    }

    async fn elsewhere(&self) -> String {
        let here = Ask { key: "another-path", ..ASK };
        assert!(self.runs(here).await);
        let another = self.runs(Ask { path: "/elsewhere", ..here }).await;
        (if another { "a different key" } else { "the same key" }).to_owned()
    }

    async fn reused(&self) -> String {
        let first = Ask { key: "another-body", body: "a", ..ASK };
        assert!(self.runs(first).await);
        let answer = self.ask(Ask { body: "b", ..first }).await;
        if answer.status() == 200 { "the first response".to_owned() } else { described(answer).await }
    }

    async fn in_progress(&self) -> String {
        let first = Ask { key: "still-runs", status: 0, ..ASK };
        tokio::select! {
            _ = self.ask(first) => unreachable!("it never answers"),
            answer = async {
                self.1.lock().await.recv().await;
                self.ask(first).await
            } => {
                let after = answer.headers().contains_key("retry-after");
                described(answer).await + if after { " with `Retry-After`" } else { "" }
            }
        }
    }

    async fn stored(&self) -> String {
        let mut stored = Vec::new();
        for status in 200..600 {
            let ask = Ask { key: &format!("status-{status}"), status, ..ASK };
            assert!(self.runs(ask).await);
            if !self.runs(ask).await {
                stored.push(status);
            }
        }
        if stored == (200..300).collect::<Vec<_>>() {
            return "2xx".to_owned();
        }
        let but: Vec<_> = (200..500).filter(|status| !stored.contains(status)).collect();
        assert_eq!(stored.len() + but.len(), 300, "{stored:?}");
        format!("below 500, except {}", list(&but))
    }

    async fn corrected(&self) -> String {
        let mut keys = Vec::new();
        for status in [400, 402, 422] {
            let refused = Ask { key: &format!("refused-{status}"), body: "a", status, ..ASK };
            assert!(self.runs(refused).await);
            let same_key = self.runs(Ask { body: "b", ..refused }).await;
            keys.push(if same_key { "the same key, or a new one" } else { "a new key" });
        }
        assert!(keys.windows(2).all(|keys| keys[0] == keys[1]), "{keys:?}");
        keys[0].to_owned()
    }

    async fn replayed(&self) -> String {
        let ask = Ask { key: "twice-the-same", ..ASK };
        let [first, again] = [self.ask(ask).await, self.ask(ask).await];
        let mut text = String::new();
        for (name, value) in again.headers().iter().filter(|(name, _)| name.as_str().contains("idempoten")) {
            match first.headers().get(name) {
                _ if value == ask.key => write!(text, "; every response has the key in `{name}`"),
                None => write!(text, "`{name}: true`"),
                Some(first) => {
                    write!(text, "`{name}: true`, of a first response `{}`", first.to_str().expect("text"))
                }
            }
            .expect("a string takes text");
            assert!(value == ask.key || value == "true");
        }
        text
    }
}

async fn answer(State(begun): State<UnboundedSender<()>>, headers: HeaderMap) -> StatusCode {
    begun.send(()).expect("somebody counts");
    match headers["status"].to_str().expect("a number").parse().expect("a number") {
        0 => std::future::pending().await,
        status => StatusCode::from_u16(status).expect("a status"),
    }
}

/// Its status, and the code in its body.
async fn described(answer: Response) -> String {
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 4096).await.expect("a body");
    let body = String::from_utf8_lossy(&body).into_owned();
    let codes = ["\"code\":\"", "\"error\":\""];
    let code = codes.iter().find_map(|before| body.split(before).nth(1)?.split('"').next());
    format!("{status} `{}`", code.unwrap_or_else(|| panic!("no code: {body}")))
}

/// After what a client sends a request with a key again.
fn tried_again(retries: &Retries) -> String {
    let policy = retries.clone().without_budget().policy();
    let again = |result: Result<Response<String>, ()>| {
        let mut request =
            Request::post("http://127.0.0.1/").header("idempotency-key", "a").body(()).expect("a request");
        let (mut policy, mut result) = (policy.clone(), result);
        let _ = Policy::<_, Response<String>, ()>::clone_request(&mut policy, &request);
        policy.retry(&mut request, &mut result).is_some()
    };
    let answered = |status: u16, header: &str| {
        again(Ok(Response::builder()
            .status(status)
            .header(header, "1")
            .body(String::new())
            .expect("an answer")))
    };
    assert!(again(Err(())), "no answer is always worth another try");
    let always: Vec<_> = (200..600).filter(|status| answered(*status, "x")).collect();
    let told: Vec<_> =
        (200..600).filter(|status| answered(*status, "retry-after") && !always.contains(status)).collect();
    format!("no response; {}; {} with `Retry-After`", list(&always), list(&told))
}

fn list(statuses: &[u16]) -> String {
    statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
