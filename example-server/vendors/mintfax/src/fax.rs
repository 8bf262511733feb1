//! The fax and its state machine.

mod id;
mod response;

use jiff::Timestamp;

pub(super) use self::id::{FaxId, base32};
pub(super) use self::response::{FaxResource, Submitted};
use super::document::MediaType;
use super::send_failure::SendFailure;
use platform::owner::Owner;
use platform::text::text_enum;

/// The maximum number of retries of a fax, and the default.
pub(super) const MAX_RETRIES: u8 = 10;
pub(super) const DEFAULT_RETRIES: u8 = 3;

/// A fax, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fax {
    pub(super) id: FaxId,
    pub(super) owner: Owner,
    pub(super) to: String,
    pub(super) status: Status,
    pub(super) document: Document,
    /// The maximum number of retries.
    pub(super) retries: u8,
    /// Attempts that were started, including the current one.
    pub(super) begun: u32,
    /// Attempts that have ended.
    pub(super) attempts: u32,
    /// The ended attempts that the carrier decided. An attempt without a decision is repeated under
    /// the same number.
    pub(super) verdicts: u32,
    pub(super) pages: Option<u32>,
    pub(super) error_code: Option<String>,
    pub(super) error_message: Option<String>,
    pub(super) webhook_url: Option<String>,
    pub(super) idempotency_key: Option<String>,
    /// The amount held for the fax, and the amount charged.
    pub(super) held_cents: u64,
    pub(super) charged_cents: u64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) submitted_at: Option<Timestamp>,
    pub(super) completed_at: Option<Timestamp>,
}

/// The document to send. Its bytes are stored in the [uploads](super::uploads).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) media_type: MediaType,
    pub(super) bytes: u64,
    /// The hash in hexadecimal digits.
    pub(super) sha256: String,
}

text_enum! {
    /// The status of a fax. It only moves down this list, and ends at one of the last two.
    pub(super) enum Status {
        /// The fax waits for its first attempt.
        Queued = "queued",
        /// The fax was handed to the carrier.
        Submitted = "submitted",
        /// The fax is being sent, or waits for a retry.
        InProgress = "in_progress",
        /// The fax was delivered.
        Delivered = "delivered",
        /// The fax was not delivered and is not retried any more.
        Failed = "failed",
    }
}

impl Status {
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed)
    }
}

impl Fax {
    /// Starts an attempt. Returns whether it is a new one, not one that is repeated.
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        if self.status == Status::Queued {
            self.status = Status::Submitted;
            self.submitted_at = Some(now);
        }
        let first = self.begun == self.attempts;
        self.begun = self.attempts + 1;
        self.updated_at = now;
        first
    }

    /// Records a successful attempt.
    pub(super) fn deliver(&mut self, pages: u32, now: Timestamp) {
        self.attempts += 1;
        self.verdicts += 1;
        self.pages = Some(pages);
        self.error_code = None;
        self.error_message = None;
        self.end(Status::Delivered, now);
    }

    /// Records a failed attempt. Returns whether it will be retried.
    pub(super) fn fail(&mut self, error: &SendFailure, now: Timestamp) -> bool {
        self.attempts += 1;
        self.verdicts += u32::from(error.is_verdict);
        self.error_code = Some(error.code.to_string());
        self.error_message = Some(error.message.to_string());
        let again = !error.is_terminal && self.attempts <= u32::from(self.retries);
        if again {
            self.updated_at = now;
        } else {
            self.end(Status::Failed, now);
        }
        again
    }

    /// Returns the number of retries left, not counting the current attempt.
    pub(super) fn retries_remaining(&self) -> u32 {
        u32::from(self.retries).saturating_sub(self.begun.saturating_sub(1))
    }

    /// Returns the idempotency key of the current attempt for the carrier. It stays the same until
    /// the carrier has decided the attempt.
    pub(super) fn carrier_key(&self) -> String {
        format!("{}-{}", self.id, self.verdicts + 1)
    }

    fn end(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        self.updated_at = now;
        self.completed_at = Some(now);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::send_failure;

    /// Returns a queued fax with this number of retries.
    pub(crate) fn fax(retries: u8) -> Fax {
        Fax {
            id: FaxId::random(),
            owner: Owner::test("demo"),
            to: "+15005550001".to_owned(),
            status: Status::Queued,
            document: Document { media_type: MediaType::Pdf, bytes: 9, sha256: "00".repeat(32) },
            retries,
            begun: 0,
            attempts: 0,
            verdicts: 0,
            pages: None,
            error_code: None,
            error_message: None,
            webhook_url: None,
            idempotency_key: None,
            held_cents: 10,
            charged_cents: 0,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            submitted_at: None,
            completed_at: None,
        }
    }

    const NOW: Timestamp = Timestamp::MAX;

    #[test]
    fn there_is_one_attempt_more_than_retries() {
        for retries in [0, 1, 3, 10] {
            let mut fax = fax(retries);
            let mut made = 0;
            while !fax.status.is_final() {
                assert!(fax.begin(NOW));
                assert_eq!(fax.retries_remaining(), u32::from(retries) - made);
                made += 1;
                assert_eq!(fax.fail(&send_failure::BUSY, NOW), made <= u32::from(retries));
            }
            assert_eq!((made, fax.retries_remaining()), (u32::from(retries) + 1, 0));
            assert_eq!((fax.status, fax.error_code.as_deref()), (Status::Failed, Some("busy")));
        }
    }

    #[test]
    fn an_invalid_number_is_not_retried() {
        let mut fax = fax(3);
        fax.begin(NOW);
        assert!(!fax.fail(&send_failure::INVALID_NUMBER, NOW));
        assert_eq!((fax.status, fax.retries_remaining()), (Status::Failed, 3));
    }

    #[test]
    fn a_repeated_attempt_is_not_counted_again() {
        let mut fax = fax(3);
        assert!(fax.begin(NOW));
        assert!(!fax.begin(NOW));
        assert_eq!((fax.begun, fax.retries_remaining()), (1, 3));
    }

    #[test]
    fn the_key_changes_only_after_the_carrier_has_decided_the_attempt() {
        let mut fax = fax(3);
        let keys: Vec<_> =
            [send_failure::NO_ANSWER_OF_CARRIER, send_failure::NO_ANSWER_OF_CARRIER, send_failure::BUSY]
                .iter()
                .map(|error| {
                    fax.begin(NOW);
                    let key = fax.carrier_key();
                    fax.fail(error, NOW);
                    key
                })
                .collect();
        assert!(keys.iter().all(|key| key.ends_with("-1")), "{keys:?}");
        assert!(fax.carrier_key().ends_with("-2"));
    }

    #[test]
    fn a_delivered_fax_shows_no_earlier_error() {
        let mut fax = fax(3);
        fax.begin(NOW);
        fax.fail(&send_failure::TRANSIENT, NOW);
        assert_eq!(fax.error_code.as_deref(), Some("transient_error"));
        fax.begin(NOW);
        fax.deliver(2, NOW);
        assert_eq!((fax.error_code, fax.pages, fax.status), (None, Some(2), Status::Delivered));
    }
}
