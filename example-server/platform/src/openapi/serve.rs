//! `/openapi.json`, `/openapi/….json` and `/docs`, for whoever can reach the port. Everything they need is in the program.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{ApiDocument, whole};
use crate::{etag, hex};

/// What serves these documents, the one that holds all of them, and the page that shows them.
pub fn routes(documents: &[ApiDocument]) -> Router {
    let text = |content: &'static str| Bytes::from_static(content.as_bytes());
    let mut shown = vec![json!({ "name": "All", "url": ALL })];
    let mut router = Router::new().route(ALL, file(JSON, whole::of(documents).to_string().into()));
    for ApiDocument { name, title, content } in documents {
        let path = format!("/openapi/{name}.json");
        router = router.route(&path, file(JSON, content.to_string().into()));
        shown.push(json!({ "name": title, "url": path }));
    }
    let script = format!("const documents = {};\n{}", json!(shown), include_str!("page/page.js"));
    let files = [
        ("/docs", "text/html; charset=utf-8", text(include_str!("page/index.html"))),
        ("/docs/page.css", "text/css; charset=utf-8", text(include_str!("page/page.css"))),
        ("/docs/page.js", SCRIPT, script.into()),
        ("/docs/swagger-ui.css", "text/css; charset=utf-8", vendored("swagger-ui.css")),
        ("/docs/swagger-ui-bundle.js", SCRIPT, vendored("swagger-ui-bundle.js")),
        ("/docs/swagger-ui-standalone-preset.js", SCRIPT, vendored("swagger-ui-standalone-preset.js")),
        ("/docs/favicon-32x32.png", "image/png", vendored("favicon-32x32.png")),
    ];
    files.into_iter().fold(router, |router, (path, kind, content)| router.route(path, file(kind, content)))
}

/// The document of all APIs.
const ALL: &str = "/openapi.json";
const JSON: &str = "application/json";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file that whoever has it need not fetch again: it is asked for each time, and is 304 while it is the same.
fn file(kind: &'static str, content: Bytes) -> MethodRouter {
    let digest = Sha256::digest(&content);
    let opaque = hex::encode(&digest[..8]);
    let headers = [
        (header::ETAG, HeaderValue::try_from(format!("\"{opaque}\"")).expect("digits make a header value")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let held = Arc::new((opaque, headers));
    get(async move |request: HeaderMap| -> Response {
        let (opaque, headers): &(String, [(HeaderName, HeaderValue); 4]) = &held;
        if etag::if_none_match(&request, opaque) {
            return (StatusCode::NOT_MODIFIED, headers.clone()).into_response();
        }
        (headers.clone(), [(header::CONTENT_TYPE, kind)], content).into_response()
    })
}

/// Nothing from elsewhere, and nothing to elsewhere. The page's library writes styles into its elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A file of Swagger UI.
fn vendored(name: &str) -> Bytes {
    let file = utoipa_swagger_ui::serve(name, Arc::default()).ok().flatten();
    file.expect("Swagger UI has the files that its own page refers to").bytes.into_owned().into()
}
