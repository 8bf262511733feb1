//! Validations that ask Banxico's site, which is simulated.

use std::collections::HashSet;
use std::thread;

use serde_json::{Value, json};
use support::{Banxico, Launch, Server, SpeiPayment, Standing, Step, Trouble, eventually, launch};

use super::code;
use super::validations::{data, on_both, read, validate};

/// A server that asks this site, and waits for it no longer than so many seconds.
fn asking(launch: Launch, banxico: &Banxico, timeout_seconds: u32) -> Server {
    let base = banxico.base_url();
    let config = format!(
        "[veriko.cep]\nprovider = \"banxico\"\nbase_url = \"{base}/\"\ntimeout_seconds = {timeout_seconds}\n\
         [veriko.caps]\nmin_interval_seconds = 1\n[veriko.plans.pro]\nrate_per_minute = 1000000\n"
    );
    launch.config(&config).start()
}

fn known(key: &str) -> SpeiPayment {
    SpeiPayment {
        fecha: "15-03-2025".into(),
        clave_rastreo: key.into(),
        referencia: "1234567".into(),
        emisor: "40002".into(),
        receptor: "40012".into(),
        cuenta: "012180004412345678".into(),
        cents: 1_500_050,
        concepto: "Renta & más".into(),
        standing: Standing::Cep,
    }
}

/// A request about a payment that is [known] under this key.
fn payment(key: &str) -> Value {
    json!({"fecha": "2025-03-15", "monto": 15000.5, "clave_rastreo": key, "emisor": "BANAMEX",
        "cuenta_beneficiaria": "012180004412345678"})
}

/// What is answered about this payment.
fn status(server: &Server, body: Value) -> Value {
    data(&validate(server, body).send())["attributes"]["status"].clone()
}

#[test]
fn each_answer_of_banxico_is_a_verdict() {
    let banxico = Banxico::start();
    banxico.know(known("MX1"));
    for (key, state) in [("MX2", "Liquidado"), ("MX3", "Devuelto"), ("MX4", "En proceso de devolución")] {
        banxico.know(SpeiPayment { standing: Standing::Identified(state), ..known(key) });
    }
    let server = asking(launch().demo(), &banxico, 30);
    let mut other_day = payment("MX1");
    other_day["fecha"] = json!("2025-03-16");
    let mut by_reference = payment("MX1");
    by_reference.as_object_mut().expect("it is one").remove("clave_rastreo");
    by_reference["referencia_numerica"] = json!("1234567");
    for trouble in [None, Some(Trouble::Latin1)] {
        banxico.trouble(Step::Form, trouble);
        for (body, expected) in [
            (payment("MX1"), "valid"),
            (by_reference.clone(), "valid"),
            (payment("MX2"), "cep_unavailable"),
            (payment("MX3"), "returned"),
            (payment("MX4"), "returned"),
            (payment("MX5"), "not_found"),
            (other_day.clone(), "not_found"),
        ] {
            assert_eq!(status(&server, body.clone()), expected, "{body}");
        }
    }
    assert_eq!(banxico.files_asked_for(), 4, "no file is asked for that is not there");
}

#[test]
fn the_cep_is_banxicos_own_to_the_byte() {
    for launch in on_both() {
        let banxico = Banxico::start();
        banxico.know(known("Á&MX 1/\"x\""));
        let server = asking(launch, &banxico, 30);
        let validation = data(&validate(&server, payment("Á&MX 1/\"x\"")).send());
        let linked = |name: &str| read(&server, validation["links"][name].as_str().expect("a link")).body;
        assert_eq!(linked("cep_xml"), known("Á&MX 1/\"x\"").xml());
        assert!(linked("cep_pdf").starts_with(b"%PDF-"));
        assert_eq!(banxico.files_asked_for(), 1, "a GET asks nobody");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_at_either_step() {
    let banxico = Banxico::start();
    banxico.know(known("MX1"));
    banxico.know(known("MX2"));
    let server = asking(launch().demo(), &banxico, 30);
    for step in [Step::Form, Step::File] {
        let mut troubles = vec![
            Trouble::Status(500),
            Trouble::Status(503),
            Trouble::Status(404),
            Trouble::HangsUp,
            Trouble::Garbage,
            Trouble::Endless,
            Trouble::Redirects,
        ];
        if step == Step::File {
            troubles.extend([Trouble::AnotherPayment, Trouble::LostSession]);
        }
        for trouble in troubles {
            banxico.trouble(step, Some(trouble));
            let answer = data(&validate(&server, payment("MX1")).send());
            let attributes = &answer["attributes"];
            assert_eq!(
                (&attributes["status"], &attributes["error_code"]),
                (&json!("error"), &json!("network")),
                "{step:?} {trouble:?}"
            );
            assert!(answer["links"].get("cep_xml").is_none(), "{answer}");
        }
        banxico.trouble(step, None);
        assert_eq!(status(&server, payment("MX1")), "valid", "nothing of it stays");
    }
}

#[test]
fn who_answers_too_late_is_not_waited_for() {
    for step in [Step::Form, Step::File] {
        let banxico = Banxico::start();
        banxico.know(known("MX1"));
        let server = asking(launch().demo(), &banxico, 1);
        banxico.trouble(step, Some(Trouble::Hangs));
        assert_eq!(status(&server, payment("MX1")), "error");
        banxico.trouble(step, None);
        assert_eq!(status(&server, payment("MX1")), "valid");
    }
    // Nobody listens there.
    let gone = Banxico::start().base_url();
    let config = format!("[veriko.cep]\nprovider = \"banxico\"\nbase_url = \"{gone}\"\n");
    assert_eq!(status(&launch().demo().config(&config).start(), payment("MX1")), "error");
}

#[test]
fn a_refusal_for_volume_at_either_step_keeps_nothing_and_the_key_may_be_used_again() {
    for (launch, step) in on_both().into_iter().zip([Step::Form, Step::File]) {
        let banxico = Banxico::start();
        banxico.know(known("MX1"));
        let server = asking(launch, &banxico, 30);
        let request = validate(&server, payment("MX1")).key("the-key");
        banxico.trouble(step, Some(Trouble::RateLimited));
        for _ in 0..2 {
            let answer = request.send();
            assert_eq!((answer.status, code(&answer).as_str()), (503, "banxico_rate_limit_exhausted"));
            assert_eq!(data(&read(&server, "/v1/validations")), json!([]));
        }
        banxico.trouble(step, None);
        let (first, again) = (request.send(), request.send());
        assert_eq!(data(&first)["attributes"]["status"], "valid");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(banxico.forms().len(), 3);
    }
}

#[test]
fn a_refusal_for_volume_says_when_to_come_back_as_banxico_does() {
    let banxico = Banxico::start();
    let server = asking(launch().demo(), &banxico, 30);
    for (step, when, seconds) in [(Step::Form, "90", 90), (Step::Form, "999999999", 86_400)] {
        banxico.trouble(step, Some(Trouble::Later(when)));
        let answer = validate(&server, payment("MX1")).send();
        assert_eq!((answer.status, answer.number("retry-after")), (503, seconds));
    }
}

#[test]
fn a_retry_that_is_refused_for_volume_goes_on_and_one_that_finds_the_payment_keeps_its_cep() {
    let banxico = Banxico::start();
    let server = asking(launch().demo(), &banxico, 30);
    let mut body = payment("MX1");
    body["retry_policy"] = json!({"enabled": true, "max_retries": 10, "interval_seconds": 1,
        "outcomes": ["not_found", "cep_unavailable"]});
    let validation = data(&validate(&server, body).send());
    assert_eq!(validation["attributes"]["status"], "not_found");
    banxico.trouble(Step::Form, Some(Trouble::RateLimited));
    let this = validation["links"]["self"].as_str().expect("a link");
    let until = |expected: &str| {
        eventually("the next verdict", || {
            let shown = data(&read(&server, this));
            (shown["attributes"]["status"] == expected).then_some(shown)
        })
    };
    let refused = until("cep_unavailable");
    assert_eq!(refused["attributes"]["retry_state"]["terminal_state"], "pending", "{refused}");
    let attempts = data(&read(&server, &format!("{this}/retry-attempts")));
    let counted = attempts.as_array().expect("a list").iter().any(|attempt| {
        attempt["new_status"] == "cep_unavailable" && attempt["error_code"] == "rate_limit_exhausted"
    });
    assert!(counted, "{attempts}");

    banxico.know(known("MX1"));
    banxico.trouble(Step::Form, None);
    let found = until("valid");
    assert_eq!(found["attributes"]["retry_state"]["terminal_state"], "resolved", "{found}");
    assert_eq!(read(&server, found["links"]["cep_xml"].as_str().expect("a link")).body, known("MX1").xml());
}

#[test]
fn however_many_are_asked_about_at_once_each_gets_its_own_cep() {
    let banxico = Banxico::start();
    let keys: Vec<String> = (0..50).map(|n| format!("MX{n}")).collect();
    for key in &keys {
        banxico.know(known(key));
    }
    let server = asking(launch().demo(), &banxico, 30);
    // So that all of them stand between the two steps at one time.
    banxico.trouble(Step::File, Some(Trouble::Hangs));
    thread::scope(|scope| {
        let asked: Vec<_> = keys
            .iter()
            .map(|key| {
                scope.spawn(|| data(&validate(&server, payment(key)).send())["links"]["cep_xml"].clone())
            })
            .collect();
        eventually("all are asked about", || (banxico.files_asked_for() == 50).then_some(()));
        banxico.trouble(Step::File, None);
        for (key, link) in keys.iter().zip(asked) {
            let link = link.join().expect("it was answered");
            let xml = read(&server, link.as_str().expect("a link")).body;
            assert_eq!(String::from_utf8_lossy(&xml), String::from_utf8_lossy(&known(key).xml()));
        }
    });
    let asked: HashSet<_> = banxico.forms().into_iter().map(|form| form["criterio"].clone()).collect();
    assert_eq!(asked.len(), 50);
}
