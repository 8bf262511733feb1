use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cep::Bank;
use crate::config::tests::load;
use platform::account::AccountPlan;

static CAPS: LazyLock<Caps> = LazyLock::new(|| load("").unwrap().terms(AccountPlan::Basic).caps.clone());

fn parse(body: &str) -> Result<PaymentRequest, Failure> {
    PaymentRequest::parse(body.as_bytes(), &CAPS)
}

/// Returns the status and, for each error, its code and field.
fn refusal_of(body: &str) -> (u16, Vec<(&'static str, String)>) {
    let failure = parse(body).unwrap_err();
    let field = |pointer: Option<String>| {
        pointer.map_or_else(String::new, |pointer| pointer.replace("/data/attributes/", ""))
    };
    let errors = failure.errors.into_iter().map(|error| (error.code, field(error.pointer))).collect();
    (failure.status.as_u16(), errors)
}

/// Returns a valid request with these fields replaced.
fn with(fields: &Value) -> String {
    let mut body = json!({
        "fecha": "2025-03-15",
        "monto": 15000.5,
        "clave_rastreo": "MXBA20250315001234",
        "referencia_numerica": "1234567",
        "emisor": "BANCO NACIONAL DE MEXICO",
        "receptor": "BBVA MEXICO",
        "cuenta_beneficiaria": "012180004412345678",
    });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

#[test]
fn the_other_published_examples_are_valid() {
    let tracking = "\"fecha\":\"2025-03-15\",\"monto\":15000.5,\"clave_rastreo\":\"MXBA20250315001234\"";
    for body in [
        with(&json!({})),
        with(&json!({"referencia_numerica": null})),
        with(&json!({"clave_rastreo": null})),
        format!(
            "{{{tracking},\"cuenta_beneficiaria\":\"012180004412345678\",\"retry_policy\":{{\"enabled\":true,\
                 \"max_retries\":3,\"interval_seconds\":600,\"outcomes\":[\"not_found\",\"cep_unavailable\"]}}}}"
        ),
        format!("{{{tracking}}}"),
    ] {
        parse(&body).unwrap_or_else(|failure| panic!("{failure:?}: {body}"));
    }
}

#[test]
fn the_published_example_of_a_mobile_number_names_one_bank_twice_and_is_refused() {
    // BANAMEX is the short name of BANCO NACIONAL DE MEXICO.
    let body = |receptor: &str| {
        let fields = json!({"monto": 5000, "receptor": receptor, "cuenta_beneficiaria": "5512345678"});
        with(&fields)
    };
    assert_eq!(refusal_of(&body("BANAMEX")), (422, vec![("intra_bank_no_cep", "receptor".to_owned())]));
    assert!(parse(&body("BBVA MEXICO")).is_ok());
}

#[test]
fn a_request_is_read_field_by_field() {
    let body = with(&json!({
        "clave_rastreo": " MXBA20250315001234 ",
        "cuenta_beneficiaria": "0121 8000-4412 345678",
        "emisor": 40002,
        "referencia_numerica": 1_234_567,
        "client_ref": " orden-4812 ",
        "retry_policy": {"enabled": true, "max_retries": 3, "interval_seconds": 600, "outcomes": ["error"]},
        "receptor_participante": 0,
    }));
    let request = parse(&body).unwrap();
    assert_eq!(request.payment.fecha(), "2025-03-15".parse::<Date>().unwrap());
    assert_eq!(request.payment.monto().cents(), 1_500_050);
    assert_eq!(request.payment.sending_bank().map(|bank| bank.spei_code), Some("40002"));
    assert_eq!(request.payment.receiving_bank().map(|bank| bank.spei_code), Some("40012"));
    assert_eq!(request.client_ref.as_ref().map(ClientRef::as_str), Some("orden-4812"));
    assert_eq!(request.retry_policy.map(|policy| policy.max_retries()), Some(3));
    assert_eq!(
        serde_json::to_value(&request.payment).unwrap(),
        json!({
            "fecha": "2025-03-15", "monto": 15000.5, "clave_rastreo": "MXBA20250315001234",
            "referencia_numerica": "1234567", "emisor": "40002", "receptor": "BBVA MEXICO",
            "cuenta_beneficiaria": "012180004412345678",
        })
    );
}

#[test]
fn each_field_has_its_own_codes() {
    let long = |length| "A".repeat(length);
    let policy = |fields: Value| json!({ "retry_policy": fields });
    let cases = [
        (json!({"fecha": null}), "required", "fecha"),
        (json!({"fecha": ""}), "required", "fecha"),
        (json!({"fecha": "15/03/2025"}), "invalid_date", "fecha"),
        (json!({"fecha": "2025-3-15"}), "invalid_date", "fecha"),
        (json!({"fecha": "20250315"}), "invalid_date", "fecha"),
        (json!({"fecha": "2025-02-29"}), "invalid_date", "fecha"),
        (json!({"fecha": "2025-13-01"}), "invalid_date", "fecha"),
        (json!({"fecha": "2025-00-10"}), "invalid_date", "fecha"),
        (json!({"fecha": "2025-03-15T10:00:00Z"}), "invalid_date", "fecha"),
        (json!({"fecha": "-025-03-15"}), "invalid_date", "fecha"),
        (json!({"fecha": 20_250_315}), "invalid_date", "fecha"),
        (json!({"fecha": ["2025-03-15"]}), "invalid_field_type", "fecha"),
        (json!({"monto": null}), "required", "monto"),
        (json!({"monto": ""}), "required", "monto"),
        (json!({"monto": 0}), "invalid_amount", "monto"),
        (json!({"monto": -100}), "invalid_amount", "monto"),
        (json!({"monto": 100.005}), "invalid_amount", "monto"),
        (json!({"monto": "1e-5"}), "invalid_amount", "monto"),
        (json!({"monto": "1e3"}), "invalid_amount", "monto"),
        (json!({"monto": "15,000.50"}), "invalid_amount", "monto"),
        (json!({"monto": "mucho"}), "invalid_amount", "monto"),
        (json!({"monto": 1e12}), "invalid_amount", "monto"),
        (json!({"monto": true}), "invalid_amount", "monto"),
        (json!({"monto": [1]}), "invalid_amount", "monto"),
        (json!({"clave_rastreo": long(31)}), "invalid_field_type", "clave_rastreo"),
        (json!({"clave_rastreo": "MXBA<2025>"}), "invalid_field_type", "clave_rastreo"),
        (json!({"clave_rastreo": {}}), "invalid_field_type", "clave_rastreo"),
        (json!({"clave_rastreo": 1.5}), "invalid_field_type", "clave_rastreo"),
        (json!({"referencia_numerica": "12345678"}), "invalid_field_type", "referencia_numerica"),
        (json!({"referencia_numerica": "ABC1234"}), "invalid_field_type", "referencia_numerica"),
        (json!({"referencia_numerica": 12_345_678}), "invalid_field_type", "referencia_numerica"),
        (json!({"referencia_numerica": -5}), "invalid_field_type", "referencia_numerica"),
        (json!({"referencia_numerica": ["1"]}), "invalid_field_type", "referencia_numerica"),
        (json!({"cuenta_beneficiaria": "12345678"}), "invalid_account_length", "cuenta_beneficiaria"),
        (
            json!({"cuenta_beneficiaria": "ABCDEFGHIJKLMNOPQR"}),
            "invalid_account_format",
            "cuenta_beneficiaria",
        ),
        (
            json!({"cuenta_beneficiaria": "012180004412345679"}),
            "invalid_clabe_checksum",
            "cuenta_beneficiaria",
        ),
        (json!({"cuenta_beneficiaria": "4111111111111112"}), "invalid_card_luhn", "cuenta_beneficiaria"),
        (
            json!({"cuenta_beneficiaria": 4_111_111_111_111_111_u64}),
            "invalid_field_type",
            "cuenta_beneficiaria",
        ),
        (json!({"cuenta_beneficiaria": {}}), "invalid_field_type", "cuenta_beneficiaria"),
        (json!({"emisor": "BANCO DE LA ILUSION"}), "invalid_bank_code", "emisor"),
        (json!({"emisor": "99999"}), "invalid_bank_code", "emisor"),
        (json!({"emisor": 99_999}), "invalid_bank_code", "emisor"),
        (json!({"emisor": long(256)}), "invalid_bank_code", "emisor"),
        (json!({"emisor": ["BBVA"]}), "invalid_field_type", "emisor"),
        (json!({"emisor": true}), "invalid_field_type", "emisor"),
        (json!({"receptor": "X"}), "invalid_bank_code", "receptor"),
        (json!({"receptor_participante": 2}), "invalid_receptor_participante", "receptor_participante"),
        (json!({"receptor_participante": -1}), "invalid_receptor_participante", "receptor_participante"),
        (json!({"receptor_participante": true}), "invalid_receptor_participante", "receptor_participante"),
        (json!({"receptor_participante": "1"}), "invalid_receptor_participante", "receptor_participante"),
        (json!({"receptor": {}}), "invalid_field_type", "receptor"),
        (json!({"receptor": "BANAMEX"}), "intra_bank_no_cep", "receptor"),
        (json!({"receptor": "002"}), "intra_bank_no_cep", "receptor"),
        (json!({"emisor": "012", "receptor": null}), "intra_bank_no_cep", "receptor"),
        (
            json!({"cuentas_candidatas": ["012180004412345678", "002010077777777771"]}),
            "cuenta_y_candidatas_excluyentes",
            "cuentas_candidatas",
        ),
        (
            json!({"cuentas_candidatas": [], "cuenta_beneficiaria": null}),
            "cuentas_candidatas_not_supported",
            "cuentas_candidatas",
        ),
        (json!({"client_ref": ""}), "invalid_client_ref", "client_ref"),
        (json!({"client_ref": long(65)}), "invalid_client_ref", "client_ref"),
        (json!({"client_ref": "orden\n4812"}), "invalid_client_ref", "client_ref"),
        (json!({"client_ref": 4812}), "invalid_client_ref", "client_ref"),
        (json!({"client_ref": ["a"]}), "invalid_client_ref", "client_ref"),
        (policy(json!({})), "retry_policy_invalid", "retry_policy/enabled"),
        (policy(json!("none")), "retry_policy_invalid", "retry_policy"),
        (policy(json!([])), "retry_policy_invalid", "retry_policy"),
        (
            policy(
                json!({"enabled": true, "max_retries": 6, "interval_seconds": 600, "outcomes": ["error"]}),
            ),
            "retry_policy_invalid",
            "retry_policy/max_retries",
        ),
    ];
    for (fields, code, field) in cases {
        assert_eq!(refusal_of(&with(&fields)), (422, vec![(code, field.to_owned())]), "{fields}");
    }
}

#[test]
fn a_key_or_a_reference_is_required_and_an_invalid_one_is_not_missing() {
    let both = |key: Value, reference: Value| {
        refusal_of(&with(&json!({"clave_rastreo": key, "referencia_numerica": reference}))).1
    };
    let required = vec![("clave_or_ref_required", "clave_rastreo".to_owned())];
    for nothing in [json!(null), json!(""), json!("  ")] {
        assert_eq!(both(nothing.clone(), nothing), required);
    }
    assert_eq!(both(json!([]), json!(null)), [("invalid_field_type", "clave_rastreo".to_owned())]);
    assert_eq!(both(json!(null), json!("x")), [("invalid_field_type", "referencia_numerica".to_owned())]);
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_the_fields() {
    let body = r#"{"client_ref": "", "retry_policy": {"enabled": true, "max_retries": 0, "interval_seconds": 1},
        "receptor": [], "emisor": "?", "cuenta_beneficiaria": "1", "monto": 0}"#;
    let failure = parse(body).unwrap_err();
    let codes: Vec<_> = failure.errors.iter().map(|error| error.code).collect();
    assert_eq!(
        codes,
        [
            "required",
            "invalid_amount",
            "clave_or_ref_required",
            "invalid_account_length",
            "invalid_bank_code",
            "invalid_field_type",
            "retry_policy_invalid",
            "retry_policy_invalid",
            "retry_policy_invalid",
            "invalid_client_ref",
        ]
    );
    assert_eq!(failure.violations.unwrap().iter().count(), 3);
    for error in &failure.errors {
        assert!(error.pointer.as_ref().is_some_and(|pointer| pointer.starts_with("/data/attributes/")));
        assert_ne!(error.detail.english, error.detail.spanish);
    }
    // An unknown bank is not compared with the other one.
    let (_, both) = refusal_of(&with(&json!({"emisor": "?", "receptor": "?"})));
    assert_eq!(
        both,
        [("invalid_bank_code", "emisor".to_owned()), ("invalid_bank_code", "receptor".to_owned())]
    );
    let (_, both) = refusal_of(&with(&json!({"receptor": "BANAMEX", "fecha": "x"})));
    assert_eq!(both, [("invalid_date", "fecha".to_owned()), ("intra_bank_no_cep", "receptor".to_owned())]);
}

#[test]
fn a_body_that_is_not_an_object_lacks_fields_and_one_that_is_not_json_is_400() {
    for body in ["[]", "3", "\"x\"", "null", "{}", " {} "] {
        let (status, errors) = refusal_of(body);
        assert_eq!((status, errors.len()), (422, 3), "{body}");
    }
    for (body, code) in [
        ("", "body_empty"),
        (" \n", "body_empty"),
        ("{", "invalid_json"),
        ("{} {}", "invalid_json"),
        ("{\"monto\": 01}", "invalid_json"),
        ("{\"fecha\": \"\\ud800\"}", "invalid_json"),
        ("{\"\\ud800\": 1}", "invalid_json"),
        ("fecha=2025-03-15", "invalid_json"),
    ] {
        assert_eq!(refusal_of(body), (400, vec![(code, String::new())]), "{body}");
    }
    let not_text = PaymentRequest::parse(b"{\"fecha\": \"\xff\"}", &CAPS).unwrap_err();
    assert_eq!(not_text.errors[0].code, "invalid_json");
}

#[test]
fn extreme_numbers_and_deep_nesting_are_refused() {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for (field, value, code) in [
        ("monto", "1e999", "invalid_amount"),
        ("monto", "1e-999", "invalid_amount"),
        ("monto", &deep, "invalid_amount"),
        ("emisor", &deep, "invalid_field_type"),
        ("retry_policy", "[]", "retry_policy_invalid"),
    ] {
        let body = with(&json!({ field: "HERE" })).replace("\"HERE\"", value);
        let (status, errors) = refusal_of(&body);
        assert_eq!((status, errors[0].0), (422, code), "{field} {}", &value[..value.len().min(20)]);
    }
}

#[test]
fn the_amount_is_read_exactly() {
    for (literal, cents) in [
        ("15000.50", 1_500_050),
        ("0.29", 29),
        ("999999999999.99", 99_999_999_999_999),
        ("1.5e3", 150_000),
        ("\"15000.50\"", 1_500_050),
        ("\" 8500 \"", 850_000),
    ] {
        let body = with(&json!({"monto": "HERE"})).replace("\"HERE\"", literal);
        assert_eq!(parse(&body).unwrap().payment.monto().cents(), cents, "{literal}");
    }
}

#[test]
fn the_last_of_two_equal_fields_is_used() {
    let body = r#"{"fecha":"x","monto":1,"clave_rastreo":"A","monto":2,"fecha":"2025-03-15"}"#;
    assert_eq!(parse(body).unwrap().payment.monto().cents(), 200);
}

#[test]
fn a_disabled_policy_differs_from_a_missing_one() {
    let off = parse(&with(&json!({"retry_policy": {"enabled": false, "max_retries": "x"}}))).unwrap();
    assert_eq!(off.retry_policy, Some(RetryPolicy::disabled()));
    for body in [with(&json!({})), with(&json!({"retry_policy": null}))] {
        assert_eq!(parse(&body).unwrap().retry_policy, None);
    }
}

#[test]
fn only_stored_payments_can_be_restored() {
    for text in ["", "{", "{}", r#"{"fecha":"2025-03-15","monto":1}"#] {
        assert!(restore(text).is_err(), "{text}");
    }
}

/// The text of any valid amount.
fn amounts() -> impl Strategy<Value = String> {
    (1_i64..100_000_000_000_000).prop_map(|cents| format!("{}.{:02}", cents / 100, cents % 100))
}

prop_compose! {
    fn bodies()(
        (year, month, day) in (1_900_i16..2_100, 1_i8..=12, 1_i8..=28),
        monto in amounts(),
        key in prop::option::of("[A-Za-z0-9 ./#@_ñÁ\"-]{0,29}[A-Z0-9]"),
        reference in prop::option::of("[0-9 ]{0,6}[0-9]"),
        sender in 0..Bank::all().len() / 2,
        receiver in Bank::all().len() / 2..Bank::all().len(),
        named in any::<(bool, bool)>(),
        account in prop::option::of(prop::sample::select(vec![
            "012180004412345678", "4111-1111-1111-1111", "55 1234 5678",
        ])),
    ) -> String {
        let mut body = json!({"fecha": format!("{year:04}-{month:02}-{day:02}")});
        body["clave_rastreo"] = json!(key.or_else(|| reference.is_none().then(|| "A".to_owned())));
        body["referencia_numerica"] = json!(reference);
        let banks = Bank::all();
        body["emisor"] = json!(named.0.then_some(banks[sender].name));
        body["receptor"] = json!((named.0 || named.1).then_some(banks[receiver].spei_code));
        body["cuenta_beneficiaria"] = json!(account);
        format!("{{\"monto\":{monto},{}", &body.to_string()[1..])
    }
}

proptest! {
    #[test]
    fn a_stored_payment_is_restored_unchanged(body in bodies()) {
        let payment = parse(&body).map_err(|failure| TestCaseError::fail(format!("{failure:?}: {body}")))?.payment;
        let kept = serde_json::to_string(&payment).unwrap();
        let restored = restore(&kept).unwrap();
        prop_assert_eq!(&restored, &payment);
        prop_assert_eq!(serde_json::to_string(&restored).unwrap(), kept);
    }

    #[test]
    fn no_body_makes_the_reader_panic(body in "\\PC{0,60}") {
        let _ = parse(&body);
    }
}

#[test]
fn a_payment_may_be_to_the_bank_itself() {
    for (sent, to_the_bank) in [(json!(null), false), (json!(0), false), (json!(1), true)] {
        let payment = parse(&with(&json!({ "receptor_participante": sent }))).unwrap().payment;
        assert_eq!(payment.is_to_the_bank(), to_the_bank);
        let kept = serde_json::to_string(&payment).unwrap();
        assert_eq!(restore(&kept).unwrap(), payment);
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept.get("receptor_participante"), Some(&sent).filter(|_| to_the_bank));
    }
}
