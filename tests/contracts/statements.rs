//! What a request costs the database: counts, which no machine changes.

use private_postgres::shared_database;
use serde_json::json;
use support::{Statements, demo_key, launch};

/// The worker is told of what is due and does not look by itself while a test runs.
const QUIET: &str = "[scheduler]\npoll_seconds = 3600\n";

/// Returns the statements of one request, after others of its kind.
fn statements_of(request: impl Fn(&support::Server, &str) -> u16) -> Vec<String> {
    let database = Statements::of(&shared_database());
    let server = launch().demo().database(database.url()).config(QUIET).start();
    let mut last = Vec::new();
    // The first ones prepare their statements, and more than one connection may do so.
    for number in 0..20 {
        database.take();
        assert!((200..300).contains(&request(&server, &format!("key-{number:04}"))), "{number}");
        last = database.take();
    }
    last
}

fn commits(statements: &[String]) -> usize {
    let begins = statements.iter().position(|text| text.starts_with("BEGIN")).unwrap_or(statements.len());
    // Before the transaction, a statement commits by itself. One that only reads has nothing to commit.
    let alone = statements[..begins].iter().filter(|text| !text.trim_start().starts_with("SELECT")).count();
    alone + statements.iter().filter(|text| text.as_str() == "COMMIT").count()
}

#[test]
fn a_validation_takes_six_statements_and_two_commits_and_none_of_the_worker() {
    let statements = statements_of(|server, key| {
        let payment = json!({
            "fecha": "2025-03-15", "monto": 15000.5, "clave_rastreo": "MXBA20250315001234",
            "referencia_numerica": "1234567", "emisor": "BANCO NACIONAL DE MEXICO", "receptor": "BBVA MEXICO",
            "cuenta_beneficiaria": "012180004412345678",
        });
        let request = server.post("/v1/validate").bearer(&demo_key('1')).header("Idempotency-Key", key);
        request.body(payment.to_string()).send().status
    });
    // The claim, what is known of the account, BEGIN, the validation with its CEP and its charge, the response, COMMIT.
    assert!(statements.len() <= 6, "{}: {statements:#?}", statements.len());
    assert_eq!(commits(&statements), 2, "{statements:#?}");
}

#[test]
fn an_operation_that_touches_the_database_alone_is_one_commit() {
    let statements = statements_of(|server, key| {
        let request =
            server.put("/v1/users/me/retry-policy").bearer(&demo_key('1')).header("Idempotency-Key", key);
        request.body(r#"{"retry_policy":{"enabled":false}}"#).send().status
    });
    assert_eq!(commits(&statements), 1, "{statements:#?}");
    assert!(statements.len() <= 6, "{}: {statements:#?}", statements.len());
}
