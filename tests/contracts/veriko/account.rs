//! Who calls, what is used, what is allowed; and what anybody may know.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::{Response, Server, demo_key, launch};

use super::validations::{on_both, payment, validate};
use super::{code, demo, framed};

fn read(server: &Server, path: &str, digit: char) -> Value {
    let answer = server.get(path).bearer(&demo_key(digit)).send();
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    framed(&answer)["data"].clone()
}

fn used(server: &Server, digit: char) -> (Value, Value, Value) {
    let summary = read(server, "/v1/usage/summary", digit);
    assert_eq!(summary["type"], "usage_summary");
    let attributes = &summary["attributes"];
    assert_eq!(attributes["resets_at"], attributes["next_reset_at"], "{summary}");
    assert!(attributes["resets_at"].as_str().is_some_and(|at| at.ends_with("-01T00:00:00Z")), "{summary}");
    (attributes["used"].clone(), attributes["remaining"].clone(), attributes["tone"].clone())
}

/// When there is a new quota, in seconds since 1970.
fn next_quota(answer: &Response) -> u64 {
    let wait = answer.number("retry-after");
    assert!((1..=31 * 86_400).contains(&wait), "{answer:?}");
    assert_eq!(framed(answer)["meta"]["retry_after"], wait, "{answer:?}");
    #[allow(clippy::disallowed_methods, reason = "the header states a moment of the wall clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    now + wait
}

#[test]
fn the_profile_says_whose_key_it_is_and_what_it_may() {
    let server = demo();
    let everything = [
        "validations:create",
        "validations:update",
        "validations_ocr:create",
        "webhooks:create",
        "webhooks:delete",
        "webhooks:read",
        "webhooks:update",
    ];
    for (digit, id, plan, may) in [
        ('1', "demo-pro", "pro", &everything[..]),
        ('3', "demo-free", "free", &everything),
        ('4', "demo-readonly", "basic", &["webhooks:read"]),
    ] {
        let profile = read(&server, "/v1/users/me", digit);
        assert_eq!((&profile["type"], &profile["id"]), (&json!("user"), &json!(id)), "{profile}");
        let attributes = &profile["attributes"];
        assert_eq!((&attributes["id"], &attributes["status"]), (&json!(id), &json!("active")), "{profile}");
        assert_eq!(attributes["subscription"]["plan_slug"], plan, "{profile}");
        assert_eq!(attributes["permissions"], json!(may), "{profile}");
        assert_eq!(attributes["api_key"], json!({"prefix": "mxcep_", "last_4": null}), "{profile}");
        assert!(!profile.to_string().contains(&digit.to_string().repeat(4)), "part of a key: {profile}");
        assert!(attributes.get("created_at").is_none(), "nobody made the demo's accounts: {profile}");
    }
}

#[test]
fn an_account_of_ones_own_has_a_date() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("own.db").display());
    let arguments = ["keys", "create", "--api", "veriko", "--account", "acme", "--plan", "basic"];
    let made = arguments.iter().fold(launch().database(&url), |launch, word| launch.arg(word)).output();
    let key = String::from_utf8(made.stdout).unwrap();
    let server = launch().database(&url).start();
    let profile = server.get("/v1/users/me").bearer(key.trim()).send().json();
    let created = profile["data"]["attributes"]["created_at"].as_str().unwrap_or_default();
    assert!(created.len() == 20 && created.starts_with("20") && created.ends_with('Z'), "{profile}");
}

#[test]
fn the_summary_counts_what_was_accepted_and_nothing_else() {
    for launch in on_both() {
        let server = launch.config("[veriko.plans.pro]\nmonthly_quota = 10\n").start();
        assert_eq!(used(&server, '1'), (json!(0), json!(10), json!("ok")));
        let keyed = validate(&server, payment("ONE-NOTFOUND")).key("once");
        for _ in 0..3 {
            assert_eq!(keyed.send().status, 200);
        }
        assert_eq!(validate(&server, payment("TWO-RATELIMITED")).send().status, 503);
        assert_eq!(validate(&server, json!({})).send().status, 422);
        assert_eq!(used(&server, '1'), (json!(1), json!(9), json!("ok")));
        for number in 0..6 {
            assert_eq!(validate(&server, payment(&format!("MORE{number}"))).send().status, 200);
        }
        assert_eq!(used(&server, '1'), (json!(7), json!(3), json!("warn")));
        assert_eq!(used(&server, '2').0, 0, "one account's validations are no other's");
    }
}

#[test]
fn a_spent_quota_says_when_there_is_a_new_one() {
    let server = launch().demo().config("[veriko.plans.pro]\nmonthly_quota = 0\n").start();
    let refused = validate(&server, payment("ONE")).send();
    assert_eq!((refused.status, code(&refused).as_str()), (429, "quota_exceeded"));
    let next = next_quota(&refused);
    // At midnight, give or take what this test takes.
    assert!((next + 300) % 86_400 < 600, "{next}");
    assert_eq!(used(&server, '1'), (json!(0), json!(0), json!("danger")));
}

#[test]
fn the_limits_are_those_of_the_plan() {
    let server = launch().demo().config("[veriko.plans.basic]\nrate_per_minute = 77\n").start();
    for (digit, limit) in [('1', 600), ('2', 77), ('3', 60)] {
        let limits = read(&server, "/v1/usage/limits", digit);
        assert_eq!(limits["type"], "usage_limits");
        assert_eq!(limits["attributes"]["rate_limits"], json!({"api": {"key_per_minute": limit}}));
        assert!(
            limits["attributes"]["notes"][0].as_str().is_some_and(|note| note.contains("429")),
            "{limits}"
        );
    }
}

#[test]
fn how_banxico_does_is_known_from_what_was_asked() {
    let server = demo();
    let status = |language: &str| {
        let request = server.get("/v1/status/banxico").header("Accept-Language", language);
        let answer = request.bearer(&demo_key('4')).send();
        assert_eq!(answer.header("cache-control"), Some("public, max-age=60"), "{answer:?}");
        framed(&answer)["data"].clone()
    };
    let unknown = status("en");
    assert_eq!((&unknown["type"], &unknown["id"]), (&json!("banxico_status"), &json!("current")));
    assert_eq!(unknown["attributes"]["status"], "unknown");
    assert_eq!(unknown["attributes"]["last_verified_at"], Value::Null);
    assert_eq!(unknown["attributes"]["estimated_recovery_at"], Value::Null);

    validate(&server, payment("ONE-NOTFOUND")).send();
    let operational = status("es");
    assert_eq!(operational["attributes"]["status"], "operational");
    assert_eq!(operational["attributes"]["status_label"], "Operativo");
    assert!(operational["attributes"]["last_verified_at"].as_str().is_some_and(|at| at.ends_with('Z')));
    for number in 0..9 {
        validate(&server, payment(&format!("TWO{number}-ERROR"))).send();
    }
    let down = status("en");
    assert_eq!(
        (&down["attributes"]["status"], &down["attributes"]["status_label"]),
        (&json!("down"), &json!("Down"))
    );
}

#[test]
fn anybody_may_read_the_banks_and_does_not_get_them_twice() {
    let server = demo();
    let answer = server.get("/v1/public/banks").send();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("private, max-age=3600"));
    let body = framed(&answer);
    let banks = body["data"].as_array().expect("a list").clone();
    assert!(banks.len() > 90, "{}", banks.len());
    for bank in &banks {
        assert_eq!((&bank["type"], &bank["id"]), (&json!("bank"), &bank["attributes"]["code"]), "{bank}");
        assert!(bank["attributes"]["name"].as_str().is_some_and(|name| !name.is_empty()), "{bank}");
        assert!(bank["attributes"]["aliases"].is_array(), "{bank}");
    }
    let banamex = banks.iter().find(|bank| bank["id"] == "40002").expect("Banamex");
    assert!(banamex["attributes"]["aliases"].as_array().is_some_and(|a| a.contains(&json!("CITIBANAMEX"))));

    let tag = answer.header("etag").expect("a tag").to_owned();
    let again = server.get("/v1/public/banks").header("If-None-Match", &tag).send();
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())));
    assert_eq!(server.get("/v1/public/banks").header("If-None-Match", "\"other\"").send().status, 200);
    // A key is not looked at, so a wrong one is no reason to refuse.
    assert_eq!(server.get("/v1/public/banks").bearer(&demo_key('9')).send().status, 200);
    assert_eq!(server.post("/v1/public/banks").send().status, 405);
}

#[test]
fn all_but_the_banks_needs_a_key() {
    let server = demo();
    for path in ["/v1/users/me", "/v1/usage/summary", "/v1/usage/limits", "/v1/status/banxico"] {
        assert_eq!(server.get(path).send().status, 401, "{path}");
    }
}
