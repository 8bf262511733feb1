//! Calls a running server with hyper and retries: it asks about a payment, and the server answers once.
//!
//! ```text
//! cargo run --release -p example-server -- --demo
//! cargo run -p account-retry-policy --features hyper --example hyper
//! ```
//!
//! Stop the server and start it again meanwhile. `docs/RETRY-SAFELY.md` walks through it.
#![expect(clippy::print_stdout, reason = "the response")]

use std::error::Error;
use std::time::Duration;

use account_retry_policy::client::Retries;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let retries = Retries::new()
        .deadline(Duration::from_secs(30))
        .on_try(|event| eprintln!("try {}: {:?}, {:?}", event.number, event.outcome, event.next));
    // Retries of hyper itself would not be counted.
    let hyper = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
    let mut client = ServiceBuilder::new().layer(retries.layer()).service(hyper);

    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:8080/v1/validate".to_owned());
    let payment = r#"{"fecha": "2026-03-15", "monto": 150.5, "clave_rastreo": "MXBA20260315001234"}"#;
    let request = Request::post(url)
        .header("authorization", format!("Bearer mxcep_{}", "1".repeat(64)))
        .header("content-type", "application/json")
        .header("idempotency-key", "payment-17") // saved with the payment before the first try
        .body(Full::new(Bytes::from(payment)))?;
    let response = client.ready().await?.call(request).await?;
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    eprintln!("{}{}", response.status(), if replayed { ", replayed" } else { "" });
    println!("{}", String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()));
    Ok(())
}
