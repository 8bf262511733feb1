//! Carriers: the services that send faxes.

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

/// A service that sends one fax, once.
#[async_trait]
pub(super) trait Carrier: Debug + Send + Sync {
    /// Estimates the number of pages of a fax before it is sent.
    fn expected_pages(&self, to: &str) -> u32;

    /// Makes one attempt. The same attempt may be repeated, with the same [`Job::key`], after a
    /// crash or when its outcome is unknown.
    async fn send(&self, job: &Job<'_>) -> Sent;
}

/// An attempt to send a fax.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) fax: &'a Fax,
    pub(super) document: &'a Path,
    /// The idempotency key. Repetitions of one attempt share it, so that the carrier sends the fax
    /// once.
    pub(super) key: String,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    Delivered {
        pages: u32,
    },
    Failed(SendFailure),
    /// The document cannot be read at the moment, for a reason outside the fax itself.
    Unreadable,
}

impl Sent {
    /// Returns the delay before the next attempt that the carrier asked for, if any.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(failure) => failure.retry_after,
            Self::Delivered { .. } | Self::Unreadable => None,
        }
    }
}
