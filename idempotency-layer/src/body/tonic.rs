//! The body of tonic.

use tonic::body::Body;

use super::{ReplayBody, Replayable};

impl Replayable for Body {
    fn from_replay(body: ReplayBody<Self>) -> Self {
        Self::new(body)
    }
}
