//! `GET /v1/public/banks`: the public list of SPEI banks.

use std::sync::LazyLock;

use axum::Extension;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::envelope::{Context, Envelope};
use crate::cep;
use platform::etag::if_none_match;

/// Lists every bank with its names.
///
/// If `If-None-Match` has the `ETag` of an earlier response and the list has not changed, the
/// response is 304 without a body.
#[utoipa::path(
    get, path = "/public/banks", operation_id = "listBanks", tag = "Public",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier response")),
    responses(
        (status = 200, description = "Every bank", body = Envelope<Vec<Bank>>,
         headers(("ETag" = String, description = "Changes with the list"),
                 ("Cache-Control" = String, description = "`private, max-age=3600`"))),
        (status = 304, description = "The list has not changed", headers(("ETag" = String, description = "The tag that was sent"))),
    ),
)]
pub(super) async fn list(Extension(context): Extension<Context>, headers: HeaderMap) -> Response {
    let mut response = if if_none_match(&headers, &CATALOGUE.tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        context.ok(&CATALOGUE.banks)
    };
    // Weak, because two responses with the same tag have a different `meta`.
    let tag = HeaderValue::from_str(&format!("W/\"{}\"", CATALOGUE.tag));
    response.headers_mut().insert(header::ETAG, tag.expect("base64url text is a valid header value"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    response
}

/// A bank.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Bank {
    #[schema(example = "bank")]
    r#type: &'static str,
    #[schema(example = "40012")]
    id: &'static str,
    attributes: Attributes,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BankAttributes)]
struct Attributes {
    /// The code that Banxico uses.
    #[schema(example = "40012")]
    code: &'static str,
    #[schema(example = "BBVA MEXICO")]
    name: &'static str,
    /// The bank's other names.
    #[schema(example = json!(["BBVA BANCOMER"]))]
    aliases: Vec<&'static str>,
}

struct Catalogue {
    banks: Vec<Bank>,
    /// Changes with the list of banks.
    tag: String,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let banks: Vec<_> = cep::Bank::all().iter().map(Bank::from).collect();
    let text = serde_json::to_vec(&banks).expect("plain fields serialise");
    let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..9]);
    Catalogue { banks, tag }
});

impl From<&'static cep::Bank> for Bank {
    fn from(bank: &'static cep::Bank) -> Self {
        let code = bank.spei_code;
        let attributes = Attributes { code, name: bank.name, aliases: bank.aliases().collect() };
        Self { r#type: "bank", id: code, attributes }
    }
}
