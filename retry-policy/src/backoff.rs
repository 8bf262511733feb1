use std::iter::FusedIterator;
use std::num::NonZeroU32;
use std::time::Duration;

/// The delays before retries: fixed or exponential, with a cap, and with jitter that stays inside the cap.
///
/// Attempts count from 0: `delay(0)` is the wait before the first retry, `base · factor^0`. A backoff is a plain value that
/// uses no outside randomness: equal values give equal delays, in every version of this crate. Every value is valid.
///
/// ```
/// use std::time::Duration;
/// use account_retry_policy::{Backoff, Jitter};
///
/// let second = Duration::from_secs(1);
/// let plain = Backoff::exponential(second, 30 * second);
/// assert_eq!(plain.delays().take(7).map(|delay| delay.as_secs()).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 30, 30]);
///
/// // min(1 s · 2^attempt + jitter of 0 to 1 s, 30 s)
/// let jittered = plain.jitter(Jitter::Additive(second), 42);
/// assert!((2 * second..=3 * second).contains(&jittered.delay(1)));
/// assert_eq!(jittered.delay(u32::MAX), 30 * second);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias("exponential backoff", "delay"))]
pub struct Backoff {
    base: Duration,
    factor: NonZeroU32,
    /// `None` for a fixed backoff: the longest delay that it can have by itself.
    cap: Option<Duration>,
    jitter: Jitter,
    seed: u64,
}

/// The jitter of a delay. `d` is the delay without jitter: `min(cap, base · factor^attempt)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// No jitter: `d`.
    #[default]
    None,
    /// From 0 to `d`.
    Full,
    /// From `d / 2` to `d`.
    Equal,
    /// From `base` to three times the delay before, at most the cap. The factor is not used. Every 64 attempts, the chain of
    /// draws begins again from the cap, so that any delay can be computed without all those before it.
    ///
    /// Needs room between base and cap: it has no effect on a fixed backoff without an explicit cap.
    Decorrelated,
    /// From `d` to `d` plus this, at most the cap. Where `d` has reached the cap, there is no jitter.
    Additive(Duration),
}

/// Attempts after which [`Jitter::Decorrelated`] begins again.
const CHAIN: u32 = 64;

impl Backoff {
    /// Returns a backoff whose delay is always `delay`.
    ///
    /// The cap is `delay` too, or with [`Jitter::Additive`] the sum of both, unless [`cap`](Self::cap) sets another.
    pub const fn fixed(delay: Duration) -> Self {
        Self { base: delay, factor: NonZeroU32::MIN, cap: None, jitter: Jitter::None, seed: 0 }
    }

    /// Returns a backoff that begins at `base` and doubles each time, up to `cap`. A `base` above `cap` counts as `cap`.
    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        const DOUBLE: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
        Self { base, factor: DOUBLE, cap: Some(cap), jitter: Jitter::None, seed: 0 }
    }

    /// Sets the factor by which an exponential backoff grows, 2 by default. It has no effect on a fixed backoff without an
    /// explicit cap.
    #[must_use]
    pub const fn factor(self, factor: NonZeroU32) -> Self {
        Self { factor, ..self }
    }

    /// Sets the longest delay, jitter included.
    #[must_use]
    pub const fn cap(self, cap: Duration) -> Self {
        Self { cap: Some(cap), ..self }
    }

    /// Sets the jitter, and the seed it is drawn from.
    ///
    /// Clients that share a seed wait in step, which jitter is there to prevent: give each client, or each piece of work, its
    /// own. Any numbers work, also consecutive ones.
    #[must_use]
    pub const fn jitter(self, jitter: Jitter, seed: u64) -> Self {
        Self { jitter, seed, ..self }
    }

    /// Sets only the seed, for a backoff that serves as a template.
    #[must_use]
    pub const fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Returns the wait before retry `attempt`, which counts from 0. It is never longer than the cap.
    pub fn delay(&self, attempt: u32) -> Duration {
        let cap = self.longest();
        let plain = self.plain(attempt).min(cap);
        let nanos = match self.jitter {
            Jitter::None => plain,
            Jitter::Full => self.draw(attempt, 0, plain),
            Jitter::Equal => self.draw(attempt, plain / 2, plain),
            Jitter::Decorrelated => self.decorrelated(attempt, cap),
            Jitter::Additive(most) => {
                self.draw(attempt, plain, plain.saturating_add(most.as_nanos())).min(cap)
            }
        };
        from_nanos(nanos)
    }

    /// Returns all delays from the first on, without end.
    pub const fn delays(&self) -> Delays {
        Delays { backoff: *self, attempt: 0 }
    }

    /// The cap in nanoseconds.
    fn longest(&self) -> u128 {
        let natural = match self.jitter {
            Jitter::Additive(most) => self.base.saturating_add(most),
            _ => self.base,
        };
        self.cap.unwrap_or(natural).as_nanos()
    }

    /// `base · factor^attempt` in nanoseconds, saturated.
    fn plain(&self, attempt: u32) -> u128 {
        u128::from(self.factor.get()).saturating_pow(attempt).saturating_mul(self.base.as_nanos())
    }

    fn decorrelated(&self, attempt: u32, cap: u128) -> u128 {
        let base = self.base.as_nanos().min(cap);
        let first = attempt - attempt % CHAIN;
        let before = if first == 0 { base } else { cap };
        (first..=attempt)
            .fold(before, |before, attempt| self.draw(attempt, base, before.saturating_mul(3).min(cap)))
    }

    /// Draws evenly from `low` to `high`, both included. The result depends only on the seed and the attempt.
    ///
    /// 128 random bits for a range below 2^96: the remainder favours no value by more than 2^-32.
    fn draw(&self, attempt: u32, low: u128, high: u128) -> u128 {
        let place = 2 * u64::from(attempt);
        let bits = u128::from(random(self.seed, place)) << 64 | u128::from(random(self.seed, place + 1));
        low + bits % (high - low + 1)
    }
}

/// `nanos` is at most the cap, which was a `Duration`, so that the number of seconds fits. (`Duration::from_nanos_u128` asks
/// for Rust 1.93.)
fn from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(nanos / SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, u32::try_from(nanos % SECOND).unwrap_or_default())
}

/// The number at `place` of the `SplitMix64` sequence of `seed`.
///
/// Implemented here because reproducible delays need a generator whose sequence never changes, with random access.
const fn random(seed: u64, place: u64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bits = seed.wrapping_add(STEP.wrapping_mul(place.wrapping_add(1)));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// The delays of a [`Backoff`], as an iterator that never ends: [`take`](Iterator::take) as many as there are retries.
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    attempt: u32,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.backoff.delay(self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        Some(delay)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl FusedIterator for Delays {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first numbers of seed 1234567, as published with other implementations of the algorithm.
        let sequence: Vec<u64> = (0..3).map(|place| random(1_234_567, place)).collect();
        assert_eq!(
            sequence,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_draw_can_be_either_end_and_nothing_else() {
        let mut seen = [0; 4];
        for seed in 0..400 {
            let drawn = Backoff::fixed(Duration::ZERO).seed(seed).draw(7, 10, 13);
            seen[usize::try_from(drawn - 10).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (50..150).contains(count)), "{seen:?}");
    }
}
