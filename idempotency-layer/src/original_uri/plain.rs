//! The URI of the request, which no router has stripped. (Without the feature `axum` the layer does
//! not accept axum's bodies, so it cannot be part of an axum router.)

use http::{Extensions, Uri};

pub(crate) fn original_uri<'a>(_: &'a Extensions, uri: &'a Uri) -> &'a Uri {
    uri
}
