//! Calls a running server with reqwest and retries: it asks about a payment, and the server answers once.
//!
//! ```text
//! cargo run --release -p example-server -- --demo
//! cargo run -p account-retry-policy --features reqwest --example reqwest
//! ```
//!
//! Stop the server and start it again meanwhile. `docs/RETRY-SAFELY.md` walks through it.
#![expect(clippy::print_stdout, reason = "the response")]

use std::error::Error;
use std::time::Duration;

use account_retry_policy::client::Retries;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // This workspace builds reqwest without a provider of cryptography. The feature `rustls` of reqwest has one.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let retries = Retries::new()
        .deadline(Duration::from_secs(30))
        .on_try(|event| eprintln!("try {}: {:?}, {:?}", event.number, event.outcome, event.next));
    let client = retries.reqwest(reqwest::Client::builder())?;

    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8080/v1/validate".to_owned());
    let payment = r#"{"fecha": "2026-03-15", "monto": 150.5, "clave_rastreo": "MXBA20260315001234"}"#;
    let request = client
        .as_reqwest()
        .post(url)
        .header(AUTHORIZATION, format!("Bearer mxcep_{}", "1".repeat(64)))
        .header(CONTENT_TYPE, "application/json")
        .header("idempotency-key", "payment-17") // saved with the payment before the first try
        .body(payment)
        .build()?;
    let response = client.execute(request).await?;
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    eprintln!("{}{}", response.status(), if replayed { ", replayed" } else { "" });
    println!("{}", response.text().await?);
    Ok(())
}
