//! Random moments that can be had again: a failed test prints its seed, and `CRASH_SEED` sets it.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

/// `SplitMix64`.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded() -> Self {
        let given = env::var("CRASH_SEED").ok().map(|seed| seed.parse().expect("CRASH_SEED is a number"));
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        eprintln!("CRASH_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Lets a random time pass, up to this. Nothing is waited for: any moment is as good.
    pub(crate) fn moment(&mut self, at_most: Duration) {
        let micros = u64::try_from(at_most.as_micros()).expect("a short time");
        thread::sleep(Duration::from_micros(self.below(micros)));
    }
}
