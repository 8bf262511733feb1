//! Invalid keys. A client that sends one believes that it is protected, so the layer refuses it and nothing runs.

use http::{HeaderValue, Request};
use idempotency_layer::{Contract, InvalidKey, KeySyntax, RejectionKind};

use crate::support::{Count, Req, counting, full, post, send, under, with};

/// A request with these values of the header, one field each.
fn keyed(values: &[&[u8]]) -> Req {
    let mut request = Request::post("/orders").body(full("body")).unwrap();
    for value in values {
        request.headers_mut().append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
    }
    request
}

/// Sends invalid keys and returns the reason for each refusal.
async fn refused<const N: usize>(contract: Contract, keys: [&[&[u8]]; N]) -> [InvalidKey; N] {
    let runs = Count::default();
    let service = under(contract, counting(&runs));
    let mut reasons = Vec::new();
    for key in keys {
        let answer = send(&service, keyed(key)).await;
        match answer.kind() {
            Some(RejectionKind::KeyInvalid(why)) => reasons.push(why),
            other => panic!("{key:?}: {other:?}, {}", answer.status),
        }
        assert!((400..500).contains(&answer.status));
    }
    assert_eq!(runs.get(), 0);
    reasons.try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_header_sent_twice_is_refused_even_with_equal_values() {
    for contract in [Contract::veriko, Contract::mintfax, Contract::txcloud, Contract::ietf, Contract::stripe]
    {
        let keys: [&[&[u8]]; 3] = [
            &[b"a-valid-key", b"a-valid-key"],
            &[b"\"a-valid-key\"", b"\"another-key\""],
            &[b"a-valid-key", b"", b""],
        ];
        assert_eq!(refused(contract(), keys).await, [InvalidKey::Repeated; 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_256_characters_is_refused_and_one_of_255_is_a_key() {
    let (fits, too_long) = ("k".repeat(255), "k".repeat(256));
    let contracts = [Contract::veriko, Contract::mintfax, Contract::txcloud, Contract::stripe];
    for contract in contracts {
        assert_eq!(refused(contract(), [&[too_long.as_bytes()]]).await, [InvalidKey::TooLong]);
    }
    let quoted = [format!("\"{fits}\""), format!("\"{too_long}\"")];
    assert_eq!(refused(Contract::ietf(), [&[quoted[1].as_bytes()]]).await, [InvalidKey::TooLong]);
    let plain = contracts.map(|contract| (contract, &fits));
    for (contract, key) in plain.into_iter().chain([(Contract::ietf as fn() -> Contract, &quoted[0])]) {
        let runs = Count::default();
        let service = under(contract(), counting(&runs));
        send(&service, post(key, "body")).await;
        send(&service, post(key, "body")).await;
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_key_is_refused() {
    for contract in [Contract::veriko, Contract::mintfax, Contract::txcloud, Contract::stripe] {
        assert_eq!(refused(contract(), [&[b""]]).await, [InvalidKey::TooShort]);
    }
    assert_eq!(
        refused(Contract::ietf(), [&[b""], &[b"\"\""]]).await,
        [InvalidKey::Syntax, InvalidKey::TooShort]
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_outside_the_alphabet_is_refused() {
    let keys: [&[&[u8]]; 5] = [
        &[b"k\xc3\xa9y-0123456789"],
        &[b"\xff\xfe-0123456789"],
        &[b"a b-0123456789"],
        &[b"a,b-0123456789"],
        &[b"a\tb-0123456789"],
    ];
    assert_eq!(refused(Contract::veriko(), keys).await, [InvalidKey::Syntax; 5]);
    assert_eq!(refused(Contract::txcloud(), keys).await, [InvalidKey::Syntax; 5]);
    assert_eq!(refused(Contract::ietf(), keys).await, [InvalidKey::Syntax; 5]);
    assert_eq!(refused(Contract::veriko(), [&[b"a:b"]]).await, [InvalidKey::Syntax]);
}

#[tokio::test(start_paused = true)]
async fn txcloud_takes_ten_characters_and_no_fewer() {
    assert_eq!(refused(Contract::txcloud(), [&[b"123456789"]]).await, [InvalidKey::TooShort]);
    let runs = Count::default();
    let service = under(Contract::txcloud(), counting(&runs));
    for _ in 0..2 {
        send(&service, post("tx:a_b-123", "body")).await;
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_free_key_may_hold_whatever_a_header_does_and_is_counted_in_characters() {
    let wide = "ñ".repeat(255);
    let keys: [&[u8]; 6] = [wide.as_bytes(), b"order 17: retry", b"\xff\x80", b"\"quoted\"", b"a\tb", b"a,b"];
    for key in keys {
        let runs = Count::default();
        let service = under(Contract::mintfax(), counting(&runs));
        for _ in 0..2 {
            let answer = send(&service, keyed(&[key])).await;
            assert_eq!(answer.headers["x-idempotency-key"].as_bytes(), key);
        }
        assert_eq!(runs.get(), 1, "{key:?}");
    }
    let too_wide = format!("{wide}ñ");
    assert_eq!(refused(Contract::mintfax(), [&[too_wide.as_bytes()]]).await, [InvalidKey::TooLong]);
}

#[tokio::test(start_paused = true)]
async fn keys_that_differ_in_case_or_in_a_blank_are_two_keys() {
    let runs = Count::default();
    let service = under(Contract::mintfax(), counting(&runs));
    for key in ["key", "Key", "key 1", "key  1", "key\t1"] {
        send(&service, post(key, "body")).await;
    }
    assert_eq!(runs.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_structured_key_needs_its_quotes_unless_the_contract_is_lenient_and_then_it_is_the_same_key() {
    assert_eq!(
        refused(Contract::ietf(), [&[b"8e03978e"], &[b"8e03978e; a=1"]]).await,
        [InvalidKey::Syntax; 2]
    );
    let runs = Count::default();
    let lenient = Contract::ietf().key(KeySyntax::structured(1..=255).or_bare());
    let service = under(lenient.clone(), counting(&runs));
    for key in ["8e03978e", "\"8e03978e\"", "\"8e03978e\";v=1", "8e03978e"] {
        assert_eq!(send(&service, post(key, "body")).await.text(), "run 1", "{key}");
    }
    let broken: [&[&[u8]]; 4] = [&[b"\"open"], &[b"open\""], &[b"a b"], &[b"\"a\" \"b\""]];
    assert_eq!(refused(lenient, broken).await, [InvalidKey::Syntax; 4]);
}

#[tokio::test(start_paused = true)]
async fn the_name_of_the_header_is_any_case_and_its_value_is_told_of_nobody() {
    let runs = Count::default();
    let service = under(Contract::veriko(), counting(&runs));
    let request = Request::post("/orders").header("IDEMPOTENCY-KEY", "key").body(full("body")).unwrap();
    send(&service, request).await;
    assert!(send(&service, post("key", "body")).await.is_replay());
    let refusal = send(&service, post("so secret a key", "body")).await;
    assert!(refusal.status == 400 && !refusal.text().contains("secret"));
    assert_eq!(refusal.headers.len(), 2, "content type and mark: {:?}", refusal.headers);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_key_is_refused_before_anything_else_is_asked() {
    let runs = Count::default();
    let service = under(Contract::veriko(), counting(&runs));
    // Its body never ends.
    let mut request = post("not a key", "");
    *request.body_mut() = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(
        futures_util::stream::pending::<crate::support::Piece>(),
    ));
    assert_eq!(send(&service, with(request, "x-tenant", "us")).await.status, 400);
}
