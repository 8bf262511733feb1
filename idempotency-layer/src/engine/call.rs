//! Judges the response of a gRPC call, whose outcome may stand at its end.

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::body::{Read, ReplayBody, Replayable};
use crate::config::Config;
use crate::contract::Disposition;
use crate::error::BoxError;
use crate::grpc::{self, Call, is_grpc};

/// The response of a gRPC call, whole again, and what the rules of the layer say of it.
pub(super) struct JudgedCall<R> {
    pub(super) response: Response<R>,
    pub(super) disposition: Disposition,
    /// Whether it is one that the handler's rows are committed with.
    pub(super) commits: bool,
    pub(super) content: Content,
}

/// What was read of the response of a call.
pub(super) enum Content {
    /// Its body and its trailers.
    Whole(Bytes, Option<HeaderMap>),
    /// Not all of it, and why.
    Partial(&'static str),
}

/// Whether this is the response of a gRPC call. An interim response, such as 101, is none.
pub(super) fn is_call<R>(response: &Response<R>) -> bool {
    is_grpc(response.headers()) && !response.status().is_informational()
}

/// Reads the response of a gRPC call until its outcome is there, or until it turns out to be a stream, and judges it.
///
/// A response that is not read to its end leaves a tombstone, as other streams do; its handler's rows are committed by
/// what its head says.
///
/// # Errors
///
/// When the body broke off.
///
/// # Cancel safety
///
/// Dropped, the response is lost.
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
    trailers: Option<HeaderMap>,
) -> JudgedCall<R> {
    let (mut parts, _) = response.into_parts();
    let disposition = config.contract.stores.classify_call(&mut parts, trailers.as_ref());
    let commits = grpc::judge(&mut parts, trailers.as_ref(), |parts| config.commits.takes(parts));
    let body = R::from_replay(ReplayBody::read(data.clone(), trailers.clone()));
    JudgedCall {
        response: Response::from_parts(parts, body),
        disposition,
        commits: commits.unwrap_or(false),
        content: Content::Whole(data, trailers),
    }
}
