//! The URI, where no router strips it. (Without the feature `axum` the layer does not accept axum's bodies, so it
//! cannot stand in a router that does.)

use http::{Extensions, Uri};

pub(crate) fn original_uri<'a>(_: &'a Extensions, uri: &'a Uri) -> &'a Uri {
    uri
}
