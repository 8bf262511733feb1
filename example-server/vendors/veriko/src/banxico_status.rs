//! `GET /v1/status/banxico`: Banxico's availability.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::api::Api;
use super::envelope::{Context, Envelope};
use super::errors::Text;
use crate::cep::{CepVerdict, Query};
use platform::utc::Utc;

/// Reads the availability of Banxico.
///
/// It is derived from recent queries. The server makes no queries for this purpose, so without
/// recent ones the status is `unknown`.
#[utoipa::path(
    get, path = "/status/banxico", operation_id = "banxicoPublicStatus", tag = "Banxico Status",
    responses((status = 200, description = "The availability", body = Envelope<BanxicoStatus>,
        headers(("Cache-Control" = String, description = "`public, max-age=60`")))),
)]
pub(super) async fn read(State(api): State<Arc<Api>>, Extension(context): Extension<Context>) -> Response {
    let recent = api.recent.snapshot();
    let status = Status::of(&recent);
    let (label, message) = status.words();
    let attributes = Attributes {
        status,
        status_label: context.say(&label).to_owned(),
        message: context.say(&message).to_owned(),
        last_verified_at: recent.last().map(|query| Utc(query.at)),
        estimated_recovery_at: None,
    };
    let mut response = context.ok(&BanxicoStatus { r#type: "banxico_status", id: "current", attributes });
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-language"));
    response
}

/// The availability of Banxico.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BanxicoStatusResource)]
pub(super) struct BanxicoStatus {
    #[schema(example = "banxico_status")]
    r#type: &'static str,
    #[schema(example = "current")]
    id: &'static str,
    attributes: Attributes,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BanxicoStatusAttributes)]
struct Attributes {
    status: Status,
    /// The status in words.
    #[schema(example = "Operational")]
    status_label: String,
    #[schema(example = "Queries to Banxico are answered normally.")]
    message: String,
    /// When Banxico was last queried.
    #[schema(required)]
    last_verified_at: Option<Utc>,
    /// `null`: not known.
    #[schema(required, example = json!(null))]
    estimated_recovery_at: Option<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BanxicoState)]
enum Status {
    Operational,
    Degraded,
    Down,
    Unknown,
}

/// The duration from which on a successful query counts as degraded.
const SLOW: Duration = Duration::from_secs(10);
/// The minimum number of failures for an outage.
const OUTAGE: usize = 3;

impl Status {
    /// Derives the status: down if at least nine of ten queries failed (and at least [`OUTAGE`]),
    /// degraded if at least one of ten failed or was slow. A payment that is not found, or whose
    /// CEP is not available, is a successful query.
    fn of(queries: &[Query]) -> Self {
        let failed = |query: &&Query| matches!(query.verdict, CepVerdict::Error | CepVerdict::RateLimited);
        let (all, failures) = (queries.len(), queries.iter().filter(failed).count());
        let failed_or_slow = queries.iter().filter(|query| failed(query) || query.took >= SLOW).count();
        match () {
            () if all == 0 => Self::Unknown,
            () if failures >= OUTAGE && failures * 10 >= all * 9 => Self::Down,
            () if failed_or_slow * 10 >= all => Self::Degraded,
            () => Self::Operational,
        }
    }

    /// Returns the label and a sentence.
    fn words(self) -> (Text, Text) {
        let [label, label_es, message, message_es] = match self {
            Self::Operational => [
                "Operational",
                "Operativo",
                "Queries to Banxico are answered normally.",
                "Las consultas a Banxico se responden con normalidad.",
            ],
            Self::Degraded => [
                "Degraded",
                "Degradado",
                "Some queries to Banxico fail or take longer than usual.",
                "Algunas consultas a Banxico fallan o tardan más de lo habitual.",
            ],
            Self::Down => [
                "Down",
                "Interrumpido",
                "Banxico does not answer at the moment.",
                "Banxico no responde por el momento.",
            ],
            Self::Unknown => [
                "Unknown",
                "Desconocido",
                "Banxico was not queried recently.",
                "No se ha consultado a Banxico últimamente.",
            ],
        };
        let text = |english: &'static str, spanish: &'static str| Text {
            english: english.into(),
            spanish: spanish.into(),
        };
        (text(label, label_es), text(message, message_es))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries(of: &[(CepVerdict, usize)], took: Duration) -> Vec<Query> {
        let one = |verdict| Query { at: "2026-11-22T09:30:00Z".parse().unwrap(), verdict, took };
        of.iter().flat_map(|&(verdict, times)| std::iter::repeat_n(one(verdict), times)).collect()
    }

    #[test]
    fn the_status_is_derived_from_the_recent_queries() {
        use CepVerdict::{CepUnavailable, Error, NotFound, RateLimited, Returned, Valid};
        for (of, status) in [
            (&[][..], Status::Unknown),
            (&[(Valid, 1)], Status::Operational),
            (&[(NotFound, 5), (CepUnavailable, 5), (Returned, 5)], Status::Operational),
            (&[(Valid, 91), (Error, 9)], Status::Operational),
            (&[(Valid, 90), (Error, 10)], Status::Degraded),
            (&[(Valid, 90), (Error, 5), (RateLimited, 5)], Status::Degraded),
            (&[(Error, 2)], Status::Degraded),
            (&[(Valid, 11), (Error, 89)], Status::Degraded),
            (&[(Valid, 10), (Error, 90)], Status::Down),
            (&[(RateLimited, 3)], Status::Down),
        ] {
            assert_eq!(Status::of(&queries(of, Duration::from_millis(200))), status, "{of:?}");
        }
        assert_eq!(Status::of(&queries(&[(Valid, 20)], SLOW)), Status::Degraded);
    }
}
