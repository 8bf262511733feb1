//! Outcomes: clauses 3, 12 and 13.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, LINK, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Harness;
use super::probe::{Probe, encoded, response};
use crate::response::StoredResponse;
use crate::store::{Claim, ClaimRequest, Outcome, Store, Tombstone};

const TOMBSTONES: [Tombstone; 2] = [Tombstone::Unreplayable, Tombstone::Unknown];
/// The number of concurrent completions.
const RACERS: usize = 8;

pub(super) async fn replay<H: Harness>(probe: &Probe<'_, H>) {
    for (what, response) in responses() {
        let ask = probe.ask();
        let fence = probe.run(ask, "of an unknown record").await.fence;
        let outcome = Outcome::Response(response.clone());
        probe.held(
            probe.complete(ask.record, fence, &outcome).await,
            format_args!("the completion with {what}"),
        );
        for n in 0..5 {
            let short = ClaimRequest { lease: probe.units(1), ttl: probe.units(1), ..probe.rival(ask) };
            let ask = if n % 2 == 0 { probe.rival(ask) } else { short };
            probe.replays(ask, &response, format_args!("after the completion with {what}")).await;
        }
    }
    time_left(probe).await;
}

/// The rest of the time to live counts from the first claim. The `ttl` of later claims has no
/// effect.
async fn time_left<H: Harness>(probe: &Probe<'_, H>) {
    let ask = ClaimRequest { ttl: probe.units(12), ..probe.ask() };
    let outcome = Outcome::Response(response("done"));
    let fence = probe.run(ask, "of an unknown record").await.fence;
    probe.advance(2).await;
    probe.held(probe.complete(ask.record, fence, &outcome).await, "a completion");
    probe.advance(2).await;
    for ttl in [probe.units(1), probe.long()] {
        let claim = probe.claim(ClaimRequest { ttl, ..probe.rival(ask) }).await;
        let Claim::Replay { expires_in: left, .. } = claim else {
            probe.not("Replay", &claim, "after a completion")
        };
        probe.ensure(
            !left.is_zero() && left <= probe.units(8),
            format_args!(
                "4 units into a time to live of 12, {left:?} were left (a unit is {:?})",
                probe.units(1)
            ),
        );
    }
}

/// Responses with details that are easily lost.
fn responses() -> Vec<(&'static str, StoredResponse)> {
    let all_bytes = || (0..=u8::MAX).cycle();
    let of = |status, headers: &HeaderMap, body: &[u8]| encoded(status, headers, body, None);
    let ok = |headers: &HeaderMap| of(StatusCode::OK, headers, b"{}");
    let body = |body: &[u8]| of(StatusCode::OK, &HeaderMap::new(), body);
    let trailers = |trailers: Option<&HeaderMap>| encoded(StatusCode::OK, &repeated(), b"body", trailers);
    vec![
        ("status 201", of(StatusCode::CREATED, &HeaderMap::new(), b"{}")),
        ("status 204", of(StatusCode::NO_CONTENT, &HeaderMap::new(), b"")),
        ("status 422", of(StatusCode::UNPROCESSABLE_ENTITY, &HeaderMap::new(), b"no")),
        ("repeated headers", ok(&repeated())),
        ("header values beyond ASCII", ok(&binary_values())),
        ("a sensitive header", ok(&sensitive())),
        ("an empty header value", ok(&HeaderMap::from_iter([(VARY, HeaderValue::from_static(""))]))),
        ("an empty body", body(b"")),
        ("a body of one zero byte", body(&[0])),
        ("a body of white space", body(b" \r\n\t ")),
        ("a body that is no UTF-8", body(&all_bytes().take(256).collect::<Vec<_>>())),
        ("a body of 1 MiB", body(&all_bytes().take(1 << 20).collect::<Vec<_>>())),
        ("no trailers", trailers(None)),
        ("empty trailers", trailers(Some(&HeaderMap::new()))),
        ("trailers", trailers(Some(&repeated()))),
        // Other bytes, as a later release or an encrypting wrapper may write.
        (
            "an encoding of its own",
            StoredResponse::from_bytes(all_bytes().skip(0xf0).take(512).collect::<Bytes>()),
        ),
    ]
}

fn repeated() -> HeaderMap {
    let fields = [
        (SET_COOKIE, "b=2; Path=/"),
        (CONTENT_TYPE, "text/html; charset=UTF-8"),
        (SET_COOKIE, "a=1"),
        (LINK, "</next>; rel=\"next\", </last>; rel=\"last\""),
        (SET_COOKIE, "a=1"),
        (LINK, "</>; rel=\"first\""),
        (ETAG, "W/\"a,b\""),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_static(value));
    }
    headers
}

/// Values with obs-text of HTTP: every byte from 0x80, alone and together, valid UTF-8 and not.
fn binary_values() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    };
    add("x-utf-8", "née ☃".as_bytes());
    add("x-all", &(0x80..=0xff).collect::<Vec<u8>>());
    for byte in 0x80..=0xff {
        add("x-each", &[byte]);
    }
    headers
}

fn sensitive() -> HeaderMap {
    let mut token = HeaderValue::from_static("Bearer x");
    token.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.append(AUTHORIZATION, token);
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    headers
}

pub(super) async fn repeated_completion<H: Harness>(probe: &Probe<'_, H>) {
    let answer = response("first");
    let [first, second] = [answer.clone(), response("second")].map(Outcome::Response);
    let tombstone = Outcome::Tombstone(Tombstone::Unreplayable);

    let ask = probe.ask();
    let fence = probe.run(ask, "of an unknown record").await.fence;
    for (outcome, what) in [
        (&first, "a completion"),
        (&first, "a completion repeated as it was"),
        (&second, "a completion repeated with another response"),
        (&tombstone, "a completion repeated with a tombstone"),
    ] {
        probe.held(probe.complete(ask.record, fence, outcome).await, what);
        probe.replays(probe.rival(ask), &answer, format_args!("after {what}")).await;
    }

    let ask = probe.ask();
    let fence = probe.run(ask, "of an unknown record").await.fence;
    for (outcome, what) in [
        (&tombstone, "a completion with a tombstone"),
        (&Outcome::Tombstone(Tombstone::Unknown), "a completion repeated with another reason"),
        (&first, "a completion with a tombstone, repeated with a response"),
    ] {
        probe.held(probe.complete(ask.record, fence, outcome).await, what);
        probe.buried(probe.rival(ask), Tombstone::Unreplayable, format_args!("after {what}")).await;
    }

    for _ in 0..probe.rounds() {
        completions_at_once(probe).await;
    }
}

async fn completions_at_once<H: Harness>(probe: &Probe<'_, H>) {
    let ask = probe.ask();
    let fence = probe.run(ask, "of an unknown record").await.fence;
    let seen = probe.race(RACERS, |racer, store| {
        let (outcome, rival) = (Outcome::Response(response(&racer.to_string())), probe.rival(ask));
        async move {
            let fenced = store.complete(ask.record, fence, outcome).await?;
            Ok((fenced, store.claim(rival).await?))
        }
    });
    let mut replays = Vec::new();
    for (fenced, claim) in seen.await {
        probe.held(fenced, "one of several completions at once with the same fence");
        let Claim::Replay { response: replay, .. } = claim else {
            probe.not("Replay", &claim, "after completions at once")
        };
        replays.push(replay);
    }
    replays.dedup();
    let kept = replays.len();
    probe.ensure(kept == 1, format_args!("completions at once left {kept} outcomes, one after the other"));
}

pub(super) async fn tombstone<H: Harness>(probe: &Probe<'_, H>) {
    for reason in TOMBSTONES {
        let ask = probe.ask();
        let fence = probe.run(ask, "of an unknown record").await.fence;
        let completed = probe.complete(ask.record, fence, &Outcome::Tombstone(reason)).await;
        probe.held(completed, format_args!("a completion with Tombstone({reason:?})"));
        for _ in 0..3 {
            probe.buried(probe.rival(ask), reason, "after a completion with a tombstone").await;
        }
        probe.buried(ask, reason, "with the token of the completed claim").await;
    }
}
