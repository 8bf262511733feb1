//! Replaces `handler_error.rs` without the feature `axum`, where there are no extractors.

use std::sync::Arc;

use http::Response;

use crate::config::Config;
use crate::contract::Contract;
use crate::key::Key;

/// Why a request runs without a claim.
pub(crate) enum NoClaim {
    NotConcerned,
    NoKey,
    StoreFailed,
}

pub(crate) struct Unclaimed;

impl Unclaimed {
    pub(crate) fn new<St>(_: &Arc<Config<St>>, _: NoClaim) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "as where there are extractors")]
    pub(crate) fn answer<R>(&self, response: Response<R>) -> Response<R> {
        response
    }
}

pub(crate) fn answer<R>(_: &Contract, _: &Key, response: Response<R>) -> Response<R> {
    response
}
