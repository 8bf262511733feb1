//! The URI before axum's `nest` stripped it.

use axum::extract::OriginalUri;
use http::{Extensions, Uri};

/// Returns the URI as the client sent it. A nested router sees a URI without its prefix, under
/// which two resources of the outer router look the same.
pub(crate) fn original_uri<'a>(extensions: &'a Extensions, uri: &'a Uri) -> &'a Uri {
    extensions.get::<OriginalUri>().map_or(uri, |original| &original.0)
}
