//! `GET /v1/validations/{id}/cep`, with the sandbox's CEPs.

use serde_json::{Value, json};
use support::{Response, Server, demo_key, eventually, launch};

use super::validations::{data, on_both, payment, read, validate};
use super::{code, demo};

/// A validation of `demo-pro`, as it is answered.
fn validated(server: &Server, key: &str) -> Value {
    data(&validate(server, payment(key)).send())
}

/// The validation's own path.
fn path(validation: &Value) -> &str {
    validation["links"]["self"].as_str().expect("a link to itself")
}

/// A file, after a look at what every file has.
fn file<'a>(response: &'a Response, media_type: &str, extension: &str, validation: &Value) -> &'a [u8] {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some(media_type));
    let name =
        format!("attachment; filename=\"CEP-{}.{extension}\"", validation["id"].as_str().expect("an id"));
    assert_eq!(response.header("content-disposition"), Some(name.as_str()));
    assert!(response.header("x-request-id").is_some(), "{response:?}");
    &response.body
}

#[test]
fn the_cep_of_a_valid_payment_is_had_where_its_links_say() {
    for launch in on_both() {
        let server = launch.start();
        let validation = validated(&server, "MXBA20250315001234");
        let linked = |name: &str| read(&server, validation["links"][name].as_str().expect("a link"));

        let (xml, pdf) = (linked("cep_xml"), linked("cep_pdf"));
        let text = String::from_utf8_lossy(file(&xml, "application/xml", "xml", &validation)).into_owned();
        for shown in
            ["claveRastreo=\"MXBA20250315001234\"", "MontoPago=\"15000.50\"", "Cuenta=\"012180004412345678\""]
        {
            assert!(text.contains(shown), "{text}");
        }
        assert!(file(&pdf, "application/pdf", "pdf", &validation).starts_with(b"%PDF-"));
        assert_eq!(read(&server, &format!("{}/cep", path(&validation))).body, xml.body, "XML is the default");
        assert_eq!(linked("cep_pdf").body, pdf.body, "each time the same");
    }
}

#[test]
fn where_there_is_no_cep_none_is_linked_to_or_had() {
    let server = demo();
    for key in ["MX1-NOTFOUND", "MX1-UNAVAILABLE", "MX1-RETURNED", "MX1-ERROR"] {
        let validation = validated(&server, key);
        assert_eq!(validation["links"], json!({"self": path(&validation)}));
        for format in ["xml", "pdf"] {
            let answer = read(&server, &format!("{}/cep?format={format}", path(&validation)));
            assert_eq!((answer.status, code(&answer).as_str()), (404, "cep_not_available"));
        }
    }
}

#[test]
fn what_cannot_be_had_is_refused() {
    let server = demo();
    let validation = validated(&server, "MX1");
    let cep = format!("{}/cep", path(&validation));
    for (path, status, wanted) in [
        (format!("{cep}?format=zip"), 400, "invalid_export_format"),
        (format!("{cep}?format="), 400, "invalid_export_format"),
        ("/v1/validations/1/cep".to_owned(), 422, "invalid_uuid"),
        ("/v1/validations/f47ac10b-58cc-4372-a567-0e02b2c3d479/cep".to_owned(), 404, "not_found"),
    ] {
        let answer = read(&server, &path);
        assert_eq!((answer.status, code(&answer).as_str()), (status, wanted), "{path}");
    }
    let foreign = server.get(&cep).bearer(&demo_key('2')).send();
    assert_eq!((foreign.status, code(&foreign).as_str()), (404, "not_found"));
    assert_eq!(server.get(&cep).send().status, 401);
}

#[test]
fn a_retry_that_finds_the_payment_brings_its_cep() {
    for launch in on_both() {
        let server = launch.config("[veriko.caps]\nmin_interval_seconds = 1").start();
        let mut body = payment("MX1-VALIDAFTER2");
        body["retry_policy"] =
            json!({"enabled": true, "max_retries": 3, "interval_seconds": 1, "outcomes": ["not_found"]});
        let validation = data(&validate(&server, body).send());
        assert_eq!(validation["links"], json!({"self": path(&validation)}));
        let found = eventually("the payment is found", || {
            let shown = data(&read(&server, path(&validation)));
            (shown["attributes"]["status"] == "valid").then_some(shown)
        });
        let xml = read(&server, found["links"]["cep_xml"].as_str().expect("a link"));
        file(&xml, "application/xml", "xml", &found);
    }
}

#[test]
fn a_cep_outlives_the_process() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let database = format!("sqlite://{}", folder.path().join("kept.db").display());
    let server = launch().demo().database(&database).start();
    let validation = validated(&server, "MX1");
    let cep = format!("{}/cep", path(&validation));
    let before = read(&server, &cep);
    server.kill();
    let server = launch().demo().database(&database).start();
    assert_eq!(read(&server, &cep).body, before.body);
    assert_eq!(data(&read(&server, path(&validation))), validation);
}
