//! Who sends faxes.

mod http;
mod sandbox;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

pub(super) use self::http::HttpCarrier;
pub(super) use self::sandbox::{Refusal, Sandbox};
use super::fax::Fax;
use super::send_failure::SendFailure;

/// Sends one fax, once.
#[async_trait]
pub(super) trait Carrier: Debug + Send + Sync {
    /// How many pages a fax is likely to have, as far as that can be known before it is sent.
    fn expected_pages(&self, to: &str) -> u32;

    /// Makes one attempt. It may be the same one again ([`Job::key`]), after a crash, or because nothing was heard.
    async fn send(&self, job: &Job<'_>) -> Sent;
}

/// One attempt.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) fax: &'a Fax,
    pub(super) document: &'a Path,
    /// The same for two tries of which only one may be sent.
    pub(super) key: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    Delivered {
        pages: u32,
    },
    Failed(SendFailure),
    /// The document cannot be read now, for a reason that is not the fax's.
    Unreadable,
}

impl Sent {
    /// How long to wait before the next attempt, where that is longer than usual.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(failure) => failure.retry_after,
            Self::Delivered { .. } | Self::Unreadable => None,
        }
    }
}
