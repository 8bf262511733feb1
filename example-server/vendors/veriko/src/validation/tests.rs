use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::payment::restore;

fn validation() -> Validation {
    let payment = r#"{"fecha":"2025-03-15","monto":15000.50,"clave_rastreo":"MXBA20250315001234",
        "referencia_numerica":"1234567","emisor":"BANCO NACIONAL DE MEXICO","receptor":"BBVA MEXICO",
        "cuenta_beneficiaria":"0121 8000 4412 345678"}"#;
    Validation {
        id: "f47ac10b-58cc-4372-a567-0e02b2c3d479".parse().unwrap(),
        account: "demo-pro".into(),
        kind: Kind::Direct,
        payment: restore(payment).unwrap(),
        status: Status::Valid,
        banxico_status: BanxicoStatus::Valid,
        processing_time_ms: Some(1320),
        created_at: "2025-03-15T14:22:10.7Z".parse().unwrap(),
        completed_at: Some("2025-03-15T14:22:11.9Z".parse().unwrap()),
        client_ref: ClientRef::parse("orden-4812"),
        error_code: None,
        error_message: None,
        cep: KeptCep::Kept,
        etag_version: 1,
        retry_state: RetryState::None,
        queue: None,
        ocr: None,
        image: None,
    }
}

fn json_of(shown: impl Serialize) -> Value {
    // Through text, as a response is sent.
    serde_json::from_str(&serde_json::to_string(&shown).unwrap()).unwrap()
}

fn no_retries() -> Value {
    json_of(RetryState::None)
}

#[test]
fn a_valid_validation_shows_every_field_and_links_to_its_cep() {
    let expected = json!({
        "id": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "type": "validation",
        "attributes": {
            "validation_type": "direct",
            "is_playground": false,
            "status": "valid",
            "banxico_status": "valid",
            "processing_time_ms": 1320,
            "request_data": {
                "fecha": "2025-03-15",
                "monto": 15000.5,
                "clave_rastreo": "MXBA20250315001234",
                "referencia_numerica": "1234567",
                "emisor": "BANCO NACIONAL DE MEXICO",
                "receptor": "BBVA MEXICO",
                "cuenta_beneficiaria": "012180004412345678",
            },
            "client_ref": "orden-4812",
            "created_at": "2025-03-15T14:22:10Z",
            "completed_at": "2025-03-15T14:22:11Z",
            "retry_state": no_retries(),
        },
        "links": {
            "self": "/v1/validations/f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "cep_xml": "/v1/validations/f47ac10b-58cc-4372-a567-0e02b2c3d479/cep?format=xml",
            "cep_pdf": "/v1/validations/f47ac10b-58cc-4372-a567-0e02b2c3d479/cep?format=pdf",
        },
    });
    assert_eq!(json_of(validation().resource()), expected);
}

#[test]
fn only_a_validation_with_a_stored_cep_links_to_it() {
    for cep in [KeptCep::Kept, KeptCep::None] {
        let shown = json_of(Validation { cep: cep.clone(), ..validation() }.resource());
        assert!(shown["links"]["self"].is_string());
        for link in ["cep_xml", "cep_pdf"] {
            assert_eq!(shown["links"].get(link).is_some(), cep == KeptCep::Kept, "{link}");
        }
    }
}

#[test]
fn unknown_values_are_null_or_left_out() {
    let payment = restore(r#"{"fecha":"2025-03-15","monto":8500,"referencia_numerica":"0000012"}"#).unwrap();
    let unfinished = Validation {
        payment,
        status: Status::Processing,
        banxico_status: BanxicoStatus::Pending,
        processing_time_ms: None,
        completed_at: None,
        client_ref: None,
        ..validation()
    };
    let attributes = &json_of(unfinished.resource())["attributes"];
    assert_eq!(
        attributes["request_data"],
        json!({"fecha": "2025-03-15", "monto": 8500, "referencia_numerica": "0000012"})
    );
    for (field, expected) in [
        ("banxico_status", Some(json!("pending"))),
        ("processing_time_ms", Some(json!(null))),
        ("completed_at", Some(json!(null))),
        ("client_ref", None),
        ("error_code", None),
        ("error_message", None),
    ] {
        assert_eq!(attributes.get(field), expected.as_ref(), "{field}");
    }

    let item = &json_of(unfinished.item())["attributes"];
    assert_eq!(item["bank_name"], "Unidentified bank");
    assert_eq!((&item["tracking_key"], &item["referencia_numerica"]), (&json!(""), &json!("0000012")));
    assert_eq!(item["beneficiary_account"], "");
    assert_eq!(item.get("client_ref"), None);
}

#[test]
fn an_error_has_its_code_and_message() {
    let verdict = CepVerdict::Error;
    let failed = Validation {
        status: verdict.into(),
        banxico_status: verdict.banxico_status(),
        error_code: verdict.error_code().map(Into::into),
        error_message: verdict.error_message().map(Into::into),
        ..validation()
    };
    let attributes = &json_of(failed.resource())["attributes"];
    assert_eq!((&attributes["status"], &attributes["banxico_status"]), (&json!("error"), &json!("error")));
    assert_eq!(attributes["error_code"], "network");
    assert!(attributes["error_message"].is_string());
}

#[test]
fn a_list_item_has_the_fields_of_the_contract() {
    let expected = json!({
        "id": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "type": "validation",
        "attributes": {
            "bank_name": "BBVA Mexico",
            "beneficiary_label": null,
            "amount": 15000.5,
            "tracking_key": "MXBA20250315001234",
            "referencia_numerica": "1234567",
            "beneficiary_account": "012180004412345678",
            "status": "valid",
            "banxico_status": "valid",
            "validation_type": "direct",
            "is_playground": false,
            "created_at": "2025-03-15T14:22:10Z",
            "deleted_at": null,
            "retry_state": no_retries(),
            "client_ref": "orden-4812",
        },
    });
    assert_eq!(json_of(validation().item()), expected);
}

#[test]
fn amounts_are_shown_to_the_cent_as_numbers() {
    for (sent, shown) in [("999999999999.99", "999999999999.99"), ("2300.00", "2300"), ("0.10", "0.1")] {
        let payment = format!(r#"{{"fecha":"2025-03-15","monto":"{sent}","clave_rastreo":"A"}}"#);
        let validation = Validation { payment: restore(&payment).unwrap(), ..validation() };
        let one = serde_json::to_string(&validation.resource()).unwrap();
        assert!(one.contains(&format!(r#""monto":{shown},"#)), "{one}");
        let item = serde_json::to_string(&validation.item()).unwrap();
        assert!(item.contains(&format!(r#""amount":{shown},"#)), "{item}");
    }
}

#[test]
fn operations_on_the_retries_return_only_the_retry_state() {
    let expected = json!({
        "id": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "type": "validation",
        "attributes": {"retry_state": no_retries()},
    });
    assert_eq!(json_of(validation().retry_state_resource()), expected);
}

#[test]
fn the_tag_has_version_and_status_and_an_unfinished_validation_has_a_poll_interval() {
    let validation = Validation { etag_version: 3, status: Status::NotFound, ..validation() };
    assert_eq!(validation.etag().to_string(), "W/\"3-not_found\"");
    for status in Status::ALL.iter().copied() {
        let waits = matches!(status, Status::Queued | Status::Processing);
        let validation = Validation { status, ..validation.clone() };
        assert_eq!(validation.next_poll_after_seconds().is_some(), waits, "{status}");
    }
}

#[test]
fn each_verdict_has_its_status_and_three_are_retried() {
    for (verdict, status, banxico_status, outcome) in [
        (CepVerdict::Valid, Status::Valid, BanxicoStatus::Valid, None),
        (CepVerdict::NotFound, Status::NotFound, BanxicoStatus::NotFound, Some(Outcome::NotFound)),
        (
            CepVerdict::CepUnavailable,
            Status::CepUnavailable,
            BanxicoStatus::CepUnavailable,
            Some(Outcome::CepUnavailable),
        ),
        (
            CepVerdict::RateLimited,
            Status::CepUnavailable,
            BanxicoStatus::CepUnavailable,
            Some(Outcome::CepUnavailable),
        ),
        (CepVerdict::Returned, Status::Returned, BanxicoStatus::Returned, None),
        (CepVerdict::Error, Status::Error, BanxicoStatus::Error, Some(Outcome::Error)),
    ] {
        assert_eq!((Status::from(verdict), verdict.banxico_status()), (status, banxico_status));
        assert_eq!(Status::from(verdict).outcome(), outcome, "{verdict:?}");
        assert_eq!(verdict.error_code().is_some(), verdict.error_message().is_some(), "{verdict:?}");
    }
}

#[test]
fn every_text_parses_to_the_value_that_wrote_it() {
    for status in Status::ALL {
        assert_eq!(status.as_str().parse(), Ok(*status));
    }
    for status in BanxicoStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(*status));
    }
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(*kind));
    }
    assert!("VALID".parse::<Status>().is_err() && "".parse::<Status>().is_err());
}

#[test]
fn an_id_must_be_hyphenated() {
    let id = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    for (text, good) in [
        (id, true),
        (&*id.to_uppercase(), true),
        ("00000000-0000-0000-0000-000000000000", true),
        (&*id.replace('-', ""), false),
        (&*format!("{{{id}}}"), false),
        (&*format!("urn:uuid:{id}"), false),
        (&id[1..], false),
        ("f47ac10b-58cc-4372-a567-0e02b2c3d47g", false),
        ("not-a-uuid", false),
        ("", false),
    ] {
        assert_eq!(
            Validation::parse_id(text).map_err(|failure| failure.errors[0].code).is_ok(),
            good,
            "{text}"
        );
    }
    let failure = Validation::parse_id("1").unwrap_err();
    assert_eq!((failure.status.as_u16(), failure.errors[0].code), (422, "invalid_uuid"));
}
