//! Decides what to store of a response, and reads it.

use http::{HeaderMap, Response};

use super::Engine;
use super::call::{Content, JudgedCall, is_call, judge_call};
use super::ended::Ended;
use crate::body::{self, Read, ReplayBody, Replayable};
use crate::contract::Disposition;
use crate::handler_error;
use crate::rejection::RejectionKind;
use crate::request_outcome::RequestOutcome;
use crate::response::StoredResponse;
use crate::store::{Outcome, Store, Tombstone};
use crate::trace;

const NOT_REPLAYED: Outcome = Outcome::Tombstone(Tombstone::Unreplayable);

impl<St: Store> Engine<St> {
    /// Decides whether a response is stored, and reads it to its end if it is.
    pub(super) fn capture<R: Replayable, E>(
        &self,
        response: Response<R>,
    ) -> impl Future<Output = Ended<R, E>> {
        // An async fn would store the response twice in its future.
        let mut response = handler_error::answer(&self.config.contract, &self.key, response);
        // The handler may pass on a response of another layer.
        response.extensions_mut().remove::<RequestOutcome>();
        let is_call = is_call(&response);
        let (parts, body) = response.into_parts();
        let disposition = (!is_call).then(|| self.config.contract.stores.classify(&parts, &body));
        let commits = self.config.commits.takes(&parts);
        let mut response = Response::from_parts(parts, body);
        async move {
            match disposition {
                None => return Box::pin(self.capture_call(response, commits)).await,
                Some(Disposition::Release) => return Ended::NotStored(response),
                Some(Disposition::Tombstone) => {
                    return Ended::Stored { response, outcome: NOT_REPLAYED, commits };
                }
                Some(Disposition::Store) => {}
            }
            match body::read(response.body_mut(), self.config.max_response_bytes).await {
                Read::Whole(data, trailers) => {
                    let outcome = self.outcome_of(&response, &data, trailers.as_deref());
                    *response.body_mut() = R::from_replay(ReplayBody::read(data, trailers));
                    Ended::Stored { response, outcome, commits }
                }
                Read::TooLarge(data) => {
                    trace::not_stored(self.record, "longer than max_response_bytes");
                    let response = response.map(|rest| R::from_replay(ReplayBody::resumed(data, rest)));
                    Ended::Stored { response, outcome: NOT_REPLAYED, commits }
                }
                Read::LimitedElsewhere(_) | Read::Failed(_) => {
                    trace::not_stored(self.record, "its body broke off");
                    let response = self.reject(RejectionKind::ResponseUnreadable);
                    Ended::Stored { response, outcome: NOT_REPLAYED, commits }
                }
            }
        }
    }

    /// Reads the response of a gRPC call, then decides whether it is stored. If its body breaks
    /// off, its head decides whether it commits.
    async fn capture_call<R: Replayable, E>(&self, response: Response<R>, head_commits: bool) -> Ended<R, E> {
        let Ok(JudgedCall { response, disposition, commits, content }) =
            judge_call(&self.config, response).await
        else {
            trace::not_stored(self.record, "its body broke off");
            let response = self.reject(RejectionKind::ResponseUnreadable);
            return Ended::Stored { response, outcome: NOT_REPLAYED, commits: head_commits };
        };
        let outcome = match (disposition, content) {
            (Disposition::Release, _) => return Ended::NotStored(response),
            (Disposition::Store, Content::Whole(data, trailers)) => {
                self.outcome_of(&response, &data, trailers.as_deref())
            }
            (_, Content::Whole(..)) => NOT_REPLAYED,
            (_, Content::Partial(why)) => {
                trace::not_stored(self.record, why);
                NOT_REPLAYED
            }
        };
        Ended::Stored { response, outcome, commits }
    }

    /// Encodes a captured response once more. Its body is in memory.
    pub(super) async fn encode_again<R: Replayable>(&self, response: &mut Response<R>) -> Outcome {
        let Read::Whole(data, trailers) = body::read(response.body_mut(), usize::MAX).await else {
            return NOT_REPLAYED;
        };
        let outcome = self.outcome_of(response, &data, trailers.as_deref());
        *response.body_mut() = R::from_replay(ReplayBody::read(data, trailers));
        outcome
    }

    /// Encodes a response for the record.
    fn outcome_of<R>(&self, response: &Response<R>, data: &[u8], trailers: Option<&HeaderMap>) -> Outcome {
        let keeps = |name: &_| self.config.contract.keeps_header(name);
        match StoredResponse::encode(response.status(), response.headers(), keeps, data, trailers) {
            Ok(stored) => Outcome::Response(stored),
            Err(error) => {
                trace::store_failed(self.record, "encode", &error);
                Outcome::Tombstone(Tombstone::Unreplayable)
            }
        }
    }
}
