//! The delay of a cycle, shortened by its jitter.

use std::time::Duration;

use super::{Cycle, Verdict};
use crate::plan::Plan;

impl Cycle {
    /// Returns the delay that its plan has after the last recorded attempt, jitter included.
    pub fn delay(&self) -> Duration {
        let delay = self.plan.delay_after(self.used);
        let percent = u128::from(self.plan.jitter_percent());
        if percent == 0 {
            return delay;
        }
        // Of 2³², so that the product fits whatever the delay.
        let part = u128::from(self.spread() >> 32);
        let cut = (delay.as_millis() * percent * part / 100) >> 32;
        let left = delay.as_millis() - cut;
        Duration::from_millis(u64::try_from(left.max(1)).unwrap_or(u64::MAX))
    }

    /// The delay after the attempt that runs, with this verdict: a failure may have a delay of its
    /// own.
    pub(crate) fn delay_after_attempt(&self, verdict: Verdict, own: Option<Duration>) -> Duration {
        match own {
            Some(own) if verdict == Verdict::Failure => own.min(Plan::MAX_DELAY),
            _ => {
                let (attempts, used) = (self.attempts.saturating_add(1), self.used.saturating_add(1));
                Self { attempts, used, ..self.clone() }.delay()
            }
        }
    }

    /// A number spread evenly over cycles, claims and attempts: FNV-1a of what tells them apart,
    /// then the finalizer of `MurmurHash3`, because FNV leaves the high bits of short texts alike.
    fn spread(&self) -> u64 {
        let numbers = [self.epoch, self.nonce, u64::from(self.attempts)];
        let texts = self.key.namespace.bytes().chain([0]).chain(self.key.subject.bytes());
        let bytes = texts.chain(numbers.into_iter().flat_map(u64::to_le_bytes));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}
