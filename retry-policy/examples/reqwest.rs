//! reqwest, which tries again: asks a running server about a payment, once, however often it must be asked.
//!
//! ```text
//! cargo run --release -p example-server -- --demo
//! cargo run -p account-retry-policy --features reqwest --example reqwest
//! ```
//!
//! Stop the server and start it again meanwhile; `docs/RETRY-SAFELY.md` walks through it.
#![expect(clippy::print_stdout, reason = "the answer")]

use std::error::Error;
use std::time::Duration;

use account_retry_policy::client::Retries;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let retries = Retries::new()
        .deadline(Duration::from_secs(30))
        .on_try(|event| eprintln!("try {}: {:?}, {:?}", event.number, event.came, event.next));
    // reqwest's own retries would be tries that nobody counts.
    let http = reqwest::Client::builder().retry(reqwest::retry::never()).build()?;
    let mut client = ServiceBuilder::new().layer(retries.layer()).service(http.clone());

    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8080/v1/validate".to_owned());
    let payment = r#"{"fecha": "2026-03-15", "monto": 150.5, "clave_rastreo": "MXBA20260315001234"}"#;
    let request = http
        .post(url)
        .header(AUTHORIZATION, format!("Bearer mxcep_{}", "1".repeat(64)))
        .header(CONTENT_TYPE, "application/json")
        .header("idempotency-key", "payment-17") // written down with the payment before its first try
        .body(payment)
        .build()?;
    let response = client.ready().await?.call(request).await?;
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    eprintln!("{}{}", response.status(), if replayed { ", replayed" } else { "" });
    println!("{}", response.text().await?);
    Ok(())
}
