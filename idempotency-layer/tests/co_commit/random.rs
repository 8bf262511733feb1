//! Reproducible random numbers.

use std::hash::{BuildHasher, RandomState};

use crate::rig::dropped_after;

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Takes the seed from `SEED`, or a new one. A history that fails prints its seed, and is the first of a run with it.
    pub(crate) fn seed() -> u64 {
        let new = || RandomState::new().hash_one(0);
        std::env::var("SEED").map_or_else(|_| new(), |seed| seed.parse().unwrap())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, end: usize) -> bool {
        self.below(end) == 0
    }

    /// Runs the future, or drops it half way. The latter has a chance of one in `end`.
    pub(crate) async fn maybe<F: Future>(&mut self, end: usize, future: F) -> Option<F::Output> {
        if self.one_in(end) {
            return dropped_after(1 + self.below(3), future).await;
        }
        Some(future.await)
    }
}
