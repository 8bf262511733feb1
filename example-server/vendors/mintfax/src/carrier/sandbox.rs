//! The carrier of test keys: the number determines the outcome.

use async_trait::async_trait;

use super::{Carrier, Job, Sent};
use crate::send_failure::{BUSY, INVALID_NUMBER, LINE_QUALITY, NO_ANSWER, SendFailure, TRANSIENT};

/// The outcome of a fax to each of these numbers.
const OUTCOMES: &[(&str, Outcome)] = &[
    ("+15005550001", Outcome::Delivered { pages: 1 }),
    ("+15005550002", Outcome::Fails(BUSY)),
    ("+15005550003", Outcome::Fails(NO_ANSWER)),
    ("+15005550004", Outcome::FailsFirst(TRANSIENT, Then { pages: 1 })),
    ("+15005550005", Outcome::Fails(LINE_QUALITY)),
    ("+15005550006", Outcome::Refused(Refusal::InsufficientBalance)),
    ("+15005550007", Outcome::Delivered { pages: 3 }),
    ("+15005550008", Outcome::Fails(INVALID_NUMBER)),
    ("+15005550099", Outcome::Refused(Refusal::InvalidNumber)),
];
/// The outcome of a fax to any other number.
const ANY_OTHER: Outcome = Outcome::Delivered { pages: 1 };

#[derive(Debug, Clone)]
enum Outcome {
    Delivered {
        pages: u32,
    },
    /// Every attempt fails.
    Fails(SendFailure),
    /// The first attempt fails; the next one delivers.
    FailsFirst(SendFailure, Then),
    /// The API refuses the fax.
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy)]
struct Then {
    pages: u32,
}

/// Why the API refuses a fax to a number, whatever else is in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    InsufficientBalance,
    InvalidNumber,
}

/// The sandbox carrier, which sends nothing.
#[derive(Debug)]
pub(crate) struct Sandbox;

impl Sandbox {
    /// Returns why a fax to this number is refused, if it is.
    pub(crate) fn refusal(to: &str) -> Option<Refusal> {
        match outcome(to) {
            Outcome::Refused(refusal) => Some(*refusal),
            _ => None,
        }
    }
}

#[async_trait]
impl Carrier for Sandbox {
    fn expected_pages(&self, to: &str) -> u32 {
        match outcome(to) {
            Outcome::Delivered { pages } | Outcome::FailsFirst(_, Then { pages }) => *pages,
            Outcome::Fails(_) | Outcome::Refused(_) => 1,
        }
    }

    async fn send(&self, job: &Job<'_>) -> Sent {
        match outcome(&job.fax.to) {
            Outcome::Delivered { pages } => Sent::Delivered { pages: *pages },
            Outcome::FailsFirst(_, Then { pages }) if job.fax.verdicts > 0 => {
                Sent::Delivered { pages: *pages }
            }
            Outcome::Fails(error) | Outcome::FailsFirst(error, _) => Sent::Failed(error.clone()),
            // The API refuses such faxes, but an earlier version may have accepted one.
            Outcome::Refused(_) => Sent::Failed(INVALID_NUMBER),
        }
    }
}

fn outcome(to: &str) -> &'static Outcome {
    OUTCOMES.iter().find(|(number, _)| *number == to).map_or(&ANY_OTHER, |(_, outcome)| outcome)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fax::tests::fax;

    /// Returns the outcomes of the given number of attempts.
    async fn sent(to: &str, attempts: u32) -> Vec<Sent> {
        let mut all = Vec::new();
        for verdicts in 0..attempts {
            let mut fax = fax(3);
            to.clone_into(&mut fax.to);
            fax.verdicts = verdicts;
            let job = Job { key: fax.carrier_key(), fax: &fax, document: Path::new("/none") };
            all.push(Sandbox.send(&job).await);
        }
        all
    }

    #[tokio::test]
    async fn the_number_determines_the_outcome() {
        let delivered = |pages| Sent::Delivered { pages };
        let failed = |error: &SendFailure| Sent::Failed(error.clone());
        for (to, expected) in [
            ("+15005550001", [delivered(1), delivered(1)]),
            ("+15005550002", [failed(&BUSY), failed(&BUSY)]),
            ("+15005550003", [failed(&NO_ANSWER), failed(&NO_ANSWER)]),
            ("+15005550004", [failed(&TRANSIENT), delivered(1)]),
            ("+15005550005", [failed(&LINE_QUALITY), failed(&LINE_QUALITY)]),
            ("+15005550007", [delivered(3), delivered(3)]),
            ("+15005550008", [failed(&INVALID_NUMBER), failed(&INVALID_NUMBER)]),
            ("+12015550100", [delivered(1), delivered(1)]),
        ] {
            assert_eq!(sent(to, 2).await, expected, "{to}");
            assert_eq!(Sandbox::refusal(to), None, "{to}");
        }
    }

    #[test]
    fn two_numbers_are_refused() {
        assert_eq!(Sandbox::refusal("+15005550006"), Some(Refusal::InsufficientBalance));
        assert_eq!(Sandbox::refusal("+15005550099"), Some(Refusal::InvalidNumber));
    }

    #[test]
    fn the_expected_pages_are_the_pages_charged() {
        for (to, pages) in [("+15005550007", 3), ("+15005550001", 1), ("+12015550100", 1)] {
            assert_eq!(Sandbox.expected_pages(to), pages, "{to}");
        }
    }
}
