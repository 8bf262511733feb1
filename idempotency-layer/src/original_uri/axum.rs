//! The URI before axum's `nest` stripped it.

use axum::extract::OriginalUri;
use http::{Extensions, Uri};

/// The URI as the client sent it: a router nested in another sees only what is left of it, under which two resources
/// of the outer one look the same.
pub(crate) fn original_uri<'a>(extensions: &'a Extensions, uri: &'a Uri) -> &'a Uri {
    extensions.get::<OriginalUri>().map_or(uri, |original| &original.0)
}
