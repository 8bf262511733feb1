//! Classifies the response of a gRPC call, whose outcome may be in the trailers.

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::body::{Read, ReplayBody, Replayable};
use crate::config::Config;
use crate::contract::Disposition;
use crate::error::BoxError;
use crate::grpc::{self, Call, is_grpc};

/// The response of a gRPC call, and what the layer's rules say about it.
pub(super) struct JudgedCall<R> {
    pub(super) response: Response<R>,
    pub(super) disposition: Disposition,
    /// Whether the handler's rows commit with this response.
    pub(super) commits: bool,
    pub(super) content: Content,
}

/// What was read of the response of a call.
pub(super) enum Content {
    /// Its body and its trailers.
    Whole(Bytes, Option<Box<HeaderMap>>),
    /// Only a part of it was read, for this reason.
    Partial(&'static str),
}

/// Returns whether this is the response of a gRPC call. An interim response such as 101 is not.
pub(super) fn is_call<R>(response: &Response<R>) -> bool {
    is_grpc(response.headers()) && !response.status().is_informational()
}

/// Reads the response of a gRPC call up to its outcome, or until it proves to be a stream, and
/// classifies it.
///
/// A response that is not read to its end leaves a tombstone, like other streams. Its head decides
/// whether the handler's rows commit.
///
/// # Errors
///
/// Returns the error of a body that broke off.
///
/// # Cancel safety
///
/// If the future is dropped, the response is lost.
pub(super) async fn judge_call<St, R: Replayable>(
    config: &Config<St>,
    mut response: Response<R>,
) -> Result<JudgedCall<R>, BoxError> {
    let told = response.extensions().get::<Disposition>().copied();
    let (data, why) = match told {
        Some(Disposition::Release | Disposition::Tombstone) => (Bytes::new(), "the handler says so"),
        Some(Disposition::Store) | None => {
            match grpc::read(response.body_mut(), config.max_response_bytes).await {
                Call::Unary(Read::Whole(data, trailers)) => {
                    return Ok(judge_whole(config, response, data, trailers));
                }
                Call::Unary(Read::TooLarge(data)) => (data, "longer than max_response_bytes"),
                Call::Streaming(data) => (data, "a stream"),
                Call::Unary(Read::LimitedElsewhere(error) | Read::Failed(error)) => return Err(error),
            }
        }
    };
    let (mut parts, rest) = response.into_parts();
    let disposition = told.filter(|told| *told == Disposition::Release).unwrap_or(Disposition::Tombstone);
    let commits = grpc::judge(&mut parts, None, |parts| config.commits.takes(parts));
    let commits = commits.unwrap_or_else(|| config.commits.takes(&parts));
    let body = if data.is_empty() { rest } else { R::from_replay(ReplayBody::resumed(data, rest)) };
    Ok(JudgedCall {
        response: Response::from_parts(parts, body),
        disposition,
        commits,
        content: Content::Partial(why),
    })
}

fn judge_whole<St, R: Replayable>(
    config: &Config<St>,
    response: Response<R>,
    data: Bytes,
    trailers: Option<Box<HeaderMap>>,
) -> JudgedCall<R> {
    let (mut parts, _) = response.into_parts();
    let disposition = config.contract.stores.classify_call(&mut parts, trailers.as_deref());
    let commits = grpc::judge(&mut parts, trailers.as_deref(), |parts| config.commits.takes(parts));
    let body = R::from_replay(ReplayBody::read(data.clone(), trailers.clone()));
    JudgedCall {
        response: Response::from_parts(parts, body),
        disposition,
        commits: commits.unwrap_or(false),
        content: Content::Whole(data, trailers),
    }
}
