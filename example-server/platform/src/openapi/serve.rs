//! The routes `/openapi.json`, `/openapi/….json` and `/docs`. They need no authentication, and the
//! program contains all of their files.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{ApiDocument, whole};
use crate::etag;

/// Returns the routes that serve these documents, the combined document, and the reference page.
pub fn routes(documents: &[ApiDocument]) -> Router {
    let text = |content: &'static str| Bytes::from_static(content.as_bytes());
    let mut listed = vec![json!({ "name": "All", "url": ALL })];
    let mut router = Router::new().route(ALL, file(JSON, whole::of(documents).to_string().into()));
    for ApiDocument { name, title, content } in documents {
        let path = format!("/openapi/{name}.json");
        router = router.route(&path, file(JSON, content.to_string().into()));
        listed.push(json!({ "name": title, "url": path }));
    }
    let script = format!("const documents = {};\n{}", json!(listed), include_str!("page/page.js"));
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

/// The path of the combined document.
const ALL: &str = "/openapi.json";
const JSON: &str = "application/json";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Returns the handler of a file. Clients must revalidate the file each time, and get 304 while it
/// is unchanged.
fn file(kind: &'static str, content: Bytes) -> MethodRouter {
    let digest = Sha256::digest(&content);
    let opaque = hex::encode(&digest[..8]);
    let headers = [
        (header::ETAG, HeaderValue::try_from(format!("\"{opaque}\"")).expect("digits make a header value")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let shared = Arc::new((opaque, headers));
    get(async move |request: HeaderMap| -> Response {
        let (opaque, headers): &(String, [(HeaderName, HeaderValue); 4]) = &shared;
        if etag::if_none_match(&request, opaque) {
            return (StatusCode::NOT_MODIFIED, headers.clone()).into_response();
        }
        (headers.clone(), [(header::CONTENT_TYPE, kind)], content).into_response()
    })
}

/// The policy of the reference page: it loads from and connects to this server only. Swagger UI
/// needs inline styles.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Returns a file of Swagger UI.
fn vendored(name: &str) -> Bytes {
    let file = utoipa_swagger_ui::serve(name, Arc::default()).ok().flatten();
    file.expect("Swagger UI has the files that its own page refers to").bytes.into_owned().into()
}
