//! Live faxes, which a carrier sends.

use serde_json::{Value, json};
use support::{Received, Says, Stub, eventually};

use super::{Demo, Form, LIVE, TEST, accepted, balance, demo_with};

const DELIVERED: Says = Says::This(200, r#"{"status": "delivered", "pages": 2}"#);
const BUSY: Says = Says::This(200, r#"{"status": "failed", "error_code": "busy"}"#);

fn demo(carrier: &Stub) -> Demo {
    demo_with(&format!("carrier_url = {:?}\ncarrier_timeout_seconds = 0.3\nprice_cents = 10", carrier.url()))
}

/// Sends a live fax, and what it looks like in the end.
fn ended(server: &Demo, form: &Form) -> Value {
    let id = accepted(&form.post(server, LIVE).send());
    eventually("the fax ends", || {
        let fax = server.get(&format!("/v1/faxes/{id}")).bearer(LIVE).send().json();
        ["delivered", "failed"].iter().any(|end| fax["status"] == *end).then_some(fax)
    })
}

fn keys(asked: &[Received]) -> Vec<String> {
    asked.iter().map(|asked| asked.header("idempotency-key").to_owned()).collect()
}

#[test]
fn the_carrier_is_given_the_fax_and_says_what_came_of_it() {
    let carrier = Stub::saying(|_, _| DELIVERED);
    let server = demo(&carrier);
    // What is a sandbox's number to a test key is a number like any other.
    let fax = ended(&server, &Form::to("+15005550002"));
    assert_eq!((&fax["status"], &fax["pages"]), (&json!("delivered"), &json!(2)));
    assert_eq!((balance(&server, LIVE), balance(&server, TEST)), ((999_980, 0), (1_000_000, 0)));

    let asked = carrier.asked();
    assert_eq!(asked.len(), 1);
    let body = String::from_utf8_lossy(&asked[0].body);
    let parts: Vec<_> = body.split("\r\n\r\n").collect();
    let job: Value = serde_json::from_str(parts[1].lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        job,
        json!({
            "fax_id": fax["id"], "to": "+15005550002", "attempt": 1, "media_type": "application/pdf", "bytes": 17,
            "sha256": job["sha256"],
        })
    );
    assert!(parts[2].starts_with("%PDF-1.7 a letter\r\n--"), "{body}");
    assert!(asked[0].header("content-type").starts_with("multipart/form-data; boundary="));
}

#[test]
fn each_attempt_has_its_own_key() {
    let carrier = Stub::saying(|number, _| if number < 2 { BUSY } else { DELIVERED });
    let server = demo(&carrier);
    let fax = ended(&server, &Form::to("+12015550100"));
    assert_eq!((&fax["status"], &fax["retries_remaining"]), (&json!("delivered"), &json!(1)));
    let id = fax["id"].as_str().expect("an id");
    assert_eq!(keys(&carrier.asked()), [1, 2, 3].map(|attempt| format!("{id}-{attempt}")));
}

/// It may have sent it: asked under the same key, it can tell.
#[test]
fn a_carrier_that_did_not_answer_is_asked_again_under_the_same_key() {
    let carrier = Stub::saying(|number, _| match number {
        0 => Says::Goodbye,
        // Whatever comes with it.
        1 => Says::This(500, r#"{"status": "delivered", "pages": 9}"#),
        2 => Says::This(200, "what?"),
        3 => Says::Nothing,
        _ => DELIVERED,
    });
    let server = demo(&carrier);
    let fax = ended(&server, &Form::to("+12015550100").field("retries", "4"));
    assert_eq!((&fax["status"], &fax["retries_remaining"]), (&json!("delivered"), &json!(0)));
    let id = fax["id"].as_str().expect("an id");
    assert_eq!(keys(&carrier.asked()), vec![format!("{id}-1"); 5]);
    assert_eq!(balance(&server, LIVE), (999_980, 0), "it is charged once");
}

#[test]
fn what_the_carrier_says_is_told() {
    for (says, code, message, attempts) in [
        (BUSY, "busy", "The line was busy.", 3),
        (
            Says::This(200, r#"{"status": "failed", "error_code": "invalid_number"}"#),
            "invalid_number",
            "There is no fax machine at this number.",
            1,
        ),
        (
            Says::This(
                200,
                r#"{"status": "failed", "error_code": "no_route", "error_message": "None.", "retryable": false}"#,
            ),
            "no_route",
            "None.",
            1,
        ),
        (
            Says::This(200, r#"{"status": "failed"}"#),
            "transient_error",
            "The attempt failed for a temporary reason.",
            3,
        ),
        (Says::Goodbye, "carrier_error", "The carrier did not report the outcome of the attempt.", 3),
        (Says::Nothing, "timeout", "The carrier did not report the outcome of the attempt in time.", 3),
    ] {
        let carrier = Stub::saying(move |_, _| says);
        let server = demo(&carrier);
        let fax = ended(&server, &Form::to("+12015550100").field("retries", "2"));
        let found = (&fax["status"], &fax["error_code"], &fax["error_message"]);
        assert_eq!(found, (&json!("failed"), &json!(code), &json!(message)));
        assert_eq!((carrier.asked().len(), balance(&server, LIVE)), (attempts, (1_000_000, 0)), "{code}");
    }
}
