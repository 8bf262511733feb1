//! A fax: what was sent, and what became of it.

mod id;
mod response;

use jiff::Timestamp;

pub(super) use self::id::{FaxId, base32};
pub(super) use self::response::{FaxResource, Submitted};
use super::document::MediaType;
use super::send_failure::SendFailure;
use platform::owner::Owner;
use platform::text::text_enum;

/// The most retries of a fax, and how many one has of which nobody says otherwise.
pub(super) const MAX_RETRIES: u8 = 10;
pub(super) const DEFAULT_RETRIES: u8 = 3;

/// One fax, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fax {
    pub(super) id: FaxId,
    pub(super) owner: Owner,
    pub(super) to: String,
    pub(super) status: Status,
    pub(super) document: Document,
    /// How often it may be tried again.
    pub(super) retries: u8,
    /// Attempts that were begun, the one that is being made included.
    pub(super) begun: u32,
    /// Attempts that have ended.
    pub(super) attempts: u32,
    /// Those of them that ended with a word of the carrier. One without is repeated under its number.
    pub(super) verdicts: u32,
    pub(super) pages: Option<u32>,
    pub(super) error_code: Option<String>,
    pub(super) error_message: Option<String>,
    pub(super) webhook_url: Option<String>,
    pub(super) idempotency_key: Option<String>,
    /// What is held for it, and what it came to.
    pub(super) held_cents: u64,
    pub(super) charged_cents: u64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) submitted_at: Option<Timestamp>,
    pub(super) completed_at: Option<Timestamp>,
}

/// What is to be sent; the bytes lie in the [uploads](super::uploads).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) media_type: MediaType,
    pub(super) bytes: u64,
    /// In hexadecimal digits.
    pub(super) sha256: String,
    /// Of a text, if its sender named one.
    pub(super) charset: Option<String>,
}

text_enum! {
    /// Where a fax stands. It goes down this list, and ends at one of the last two.
    pub(super) enum Status {
        /// It waits.
        Queued = "queued",
        /// It was handed to who sends it.
        Submitted = "submitted",
        /// It is being sent, or waits to be sent again.
        InProgress = "in_progress",
        /// It arrived.
        Delivered = "delivered",
        /// It did not, and is not sent any more.
        Failed = "failed",
    }
}

impl Status {
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed)
    }
}

impl Fax {
    /// An attempt begins; whether it is one that nobody has begun before.
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

    /// It arrived.
    pub(super) fn deliver(&mut self, pages: u32, now: Timestamp) {
        self.attempts += 1;
        self.verdicts += 1;
        self.pages = Some(pages);
        self.error_code = None;
        self.error_message = None;
        self.end(Status::Delivered, now);
    }

    /// An attempt did not succeed; whether there is another one.
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

    /// How many of its retries are left, the one that is being made not counted.
    pub(super) fn retries_remaining(&self) -> u32 {
        u32::from(self.retries).saturating_sub(self.begun.saturating_sub(1))
    }

    /// What the carrier knows the present attempt by: the same until it has said what came of it.
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

    /// One that waits, with so many retries.
    pub(crate) fn fax(retries: u8) -> Fax {
        Fax {
            id: FaxId::random(),
            owner: Owner::test("demo"),
            to: "+15005550001".to_owned(),
            status: Status::Queued,
            document: Document {
                media_type: MediaType::Pdf,
                bytes: 9,
                sha256: "00".repeat(32),
                charset: None,
            },
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
    fn a_number_that_is_none_is_not_tried_again() {
        let mut fax = fax(3);
        fax.begin(NOW);
        assert!(!fax.fail(&send_failure::INVALID_NUMBER, NOW));
        assert_eq!((fax.status, fax.retries_remaining()), (Status::Failed, 3));
    }

    #[test]
    fn an_attempt_that_is_begun_again_is_no_other() {
        let mut fax = fax(3);
        assert!(fax.begin(NOW));
        assert!(!fax.begin(NOW));
        assert_eq!((fax.begun, fax.retries_remaining()), (1, 3));
    }

    #[test]
    fn the_carrier_is_asked_under_another_key_only_when_it_has_answered() {
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
    fn what_went_wrong_before_it_arrived_is_not_shown_after() {
        let mut fax = fax(3);
        fax.begin(NOW);
        fax.fail(&send_failure::TRANSIENT, NOW);
        assert_eq!(fax.error_code.as_deref(), Some("transient_error"));
        fax.begin(NOW);
        fax.deliver(2, NOW);
        assert_eq!((fax.error_code, fax.pages, fax.status), (None, Some(2), Status::Delivered));
    }
}
