//! The URI before axum's `nest` stripped it.

use axum::extract::OriginalUri;
use http::Uri;
use http::request::Parts;

/// The URI as the client sent it: a router nested in another sees only what is left of it, under which two resources
/// of the outer one look the same.
pub(crate) fn original_uri(parts: &Parts) -> &Uri {
    parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0)
}
