//! How a run ends, whichever way it was claimed.

use std::any::Any;

use http::Response;

use crate::store::Outcome;

pub(super) type Panic = Box<dyn Any + Send>;

/// How a run ended.
pub(super) enum Ended<R, E> {
    /// With a response that is stored or leaves a tombstone.
    Stored {
        response: Response<R>,
        outcome: Outcome,
        /// Whether the handler's rows commit with this response.
        commits: bool,
    },
    /// With a response that is not stored. A retry runs.
    NotStored(Response<R>),
    /// With the service's own error.
    Failed(E),
    /// With the service's own error while it became ready.
    NotReady(E),
    /// With a panic.
    Panicked(Panic),
    /// The client disconnected under [`OnDisconnect::Cancel`](crate::OnDisconnect::Cancel).
    Cancelled,
}
