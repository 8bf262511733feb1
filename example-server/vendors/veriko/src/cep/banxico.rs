//! Banxico's public site of CEPs, <https://www.banxico.org.mx/cep>.
//!
//! It is a form for people, asked as the client `cepmex` asks it. Sent to `valida.do`, the form is answered with a page in
//! Spanish; where that finds a CEP, the cookies that came with it stand for the payment, and `descarga.do` gives its file:
//!
//! | step | answer | verdict |
//! |---|---|---|
//! | either | *ha excedido el número máximo de consultas*, whatever the status; 429 | `RateLimited` |
//! | either | another status than 2xx, no answer in time, too long an answer, a redirect off the site | `Error` |
//! | form | *identificó el siguiente pago*, its state *Devuelto* or *En proceso de devolución* | `Returned` |
//! | form | *identificó el siguiente pago*, any other state | `CepUnavailable` |
//! | form | *No se encontró ningún pago*, or *El SPEI no ha recibido una orden de pago* | `NotFound` |
//! | form | any other page | as the file says: the site has no one sentence for success |
//! | file | a CEP of the payment that was asked about | `Valid` |
//! | file | a CEP of another payment, a page, anything else | `Error` |
//!
//! With the first two, the site may say in `Retry-After` how long it wants to be left alone.
//!
//! What a payment does not say is sent empty, and Banxico judges whether it can do without. The receiving bank is taken from
//! the CLABE where none is named. The sending bank is known to nobody else: some tracking keys show it, but by no rule that
//! is written down anywhere.

mod form;
mod reading;
mod session;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, StatusCode, redirect};
use url::Url;

use super::document::CepError;
use super::payment::Payment;
use super::{Answer, CepVerdict, Provider};
use platform::tls;
use reading::Reading;
use session::Session;

/// Asks Banxico. The whole of an asking is bounded by who asks.
#[derive(Debug)]
pub(crate) struct Banxico {
    client: Client,
    /// Without a slash at its end.
    base: Url,
}

impl Banxico {
    /// How long a connection may take, of the whole.
    const TO_CONNECT: Duration = Duration::from_secs(10);

    /// The site at this URL.
    ///
    /// # Errors
    /// No client can be made on this machine.
    pub(crate) fn at(base: Url) -> Result<Self, reqwest::Error> {
        let client = tls::client_builder()
            .connect_timeout(Self::TO_CONNECT)
            // Followed by the session, which has the cookies, and no further than the site.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("Mozilla/5.0 (compatible; example-server/", env!("CARGO_PKG_VERSION"), ")"))
            .build()?;
        Ok(Self { client, base })
    }

    async fn query(&self, payment: &Payment) -> Result<Answer, FieldError> {
        let session = Session::new(&self.client, &self.base);
        let page = session.post("valida.do", &form::of(payment)).await?;
        if let Reading::Answer(answer) = reading::of_form(&page)? {
            return Ok(answer);
        }
        reading::of_file(session.get("descarga.do?formato=XML").await?, payment)
    }
}

#[async_trait]
impl Provider for Banxico {
    async fn ask(&self, payment: &Payment, _asked: u32) -> Answer {
        self.query(payment).await.unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Banxico gave no answer that can be read"
            );
            let retry_after = match error {
                FieldError::Status(_, retry_after) => retry_after,
                _ => None,
            };
            Answer { retry_after, ..CepVerdict::Error.into() }
        })
    }
}

/// Why there is no verdict of Banxico's. For the log: nothing of the payment stands in it.
#[derive(Debug, thiserror::Error)]
enum FieldError {
    #[error("the call failed")]
    Http(#[from] reqwest::Error),
    #[error("the status is {0}")]
    Status(StatusCode, Option<Duration>),
    #[error("the answer is too long")]
    TooLong,
    #[error("it redirects off the site, or in circles")]
    Redirected,
    #[error("the file is no CEP")]
    NoCep(#[from] CepError),
    #[error("the CEP is of another payment")]
    AnotherPayment,
}
