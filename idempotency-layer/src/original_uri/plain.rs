//! The URI, where no router strips it. (Without the feature `axum` the layer does not accept axum's bodies, so it
//! cannot stand in a router that does.)

use http::Uri;
use http::request::Parts;

pub(crate) fn original_uri(parts: &Parts) -> &Uri {
    &parts.uri
}
