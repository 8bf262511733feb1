//! The body of axum.

use axum::body::Body;

use super::{ReplayBody, Replayable};

impl Replayable for Body {
    fn from_replay(body: ReplayBody<Self>) -> Self {
        body.into_bytes().map_or_else(Self::new, Self::from)
    }
}
