//! Banxico's public CEP site, <https://www.banxico.org.mx/cep>.
//!
//! The site is a web form for people. The server submits it as the client `cepmex` does: the answer
//! to `valida.do` is a page in Spanish. If that finds a CEP, the cookies of the answer identify the
//! payment, and `descarga.do` returns its file:
//!
//! | step | answer | verdict |
//! |---|---|---|
//! | either | *ha excedido el número máximo de consultas*, whatever the status; 429 | `RateLimited` |
//! | either | a status other than 2xx, no answer in time, an answer that is too long, a redirect off the site | `Error` |
//! | form | *identificó el siguiente pago*, its state *Devuelto* or *En proceso de devolución* | `Returned` |
//! | form | *identificó el siguiente pago*, any other state | `CepUnavailable` |
//! | form | *No se encontró ningún pago*, or *El SPEI no ha recibido una orden de pago* | `NotFound` |
//! | form | any other page | depends on the file: the site has no fixed sentence for success |
//! | file | the CEP of the requested payment | `Valid` |
//! | file | the CEP of another payment, a page, anything else | `Error` |
//!
//! In the first two rows, the site may say in `Retry-After` how long to wait.
//!
//! Fields that the payment lacks are sent empty, and Banxico decides whether it needs them. If no
//! receiving bank is named, it is derived from the CLABE. The sending bank cannot be derived: some
//! tracking keys contain it, but by no documented rule.

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
use session::Session;

/// The provider that queries Banxico. The caller limits the total duration of a query.
#[derive(Debug)]
pub(crate) struct Banxico {
    client: Client,
    /// Without a trailing slash.
    base: Url,
}

impl Banxico {
    /// The time-out for connecting, within the total.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

    /// Creates a provider for the site at `base`.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub(crate) fn at(base: Url) -> Result<Self, reqwest::Error> {
        let client = tls::client_builder()
            .connect_timeout(Self::CONNECT_TIMEOUT)
            // The session follows redirects itself: it has the cookies, and does not leave the
            // site.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("Mozilla/5.0 (compatible; example-server/", env!("CARGO_PKG_VERSION"), ")"))
            .build()?;
        Ok(Self { client, base })
    }

    async fn query(&self, payment: &Payment) -> Result<Answer, QueryError> {
        let session = Session::new(&self.client, &self.base);
        let page = session.post("valida.do", &form::of(payment)).await?;
        if let Some(answer) = reading::of_form(&page)? {
            return Ok(answer);
        }
        reading::of_file(session.get("descarga.do?formato=XML").await?, payment)
    }
}

#[async_trait]
impl Provider for Banxico {
    async fn ask(&self, payment: &Payment, _asked: u32) -> Answer {
        self.query(payment).await.unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "Banxico gave no readable answer");
            let retry_after = match error {
                QueryError::Status(_, retry_after) => retry_after,
                _ => None,
            };
            Answer { retry_after, ..CepVerdict::Error.into() }
        })
    }
}

/// The reason why there is no verdict. It is logged, so it contains nothing of the payment.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error("the call failed")]
    Http(#[from] reqwest::Error),
    #[error("the status is {0}")]
    Status(StatusCode, Option<Duration>),
    #[error("the answer is too long")]
    TooLong,
    #[error("the redirect leaves the site or loops")]
    Redirected,
    #[error("the file is not a CEP")]
    NoCep(#[from] CepError),
    #[error("the CEP belongs to another payment")]
    AnotherPayment,
}
