//! Delays, and the effect of jitter on them.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

use account_retry_policy::{Backoff, Jitter};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn factor(factor: u32) -> NonZeroU32 {
    NonZeroU32::new(factor).expect("a factor is at least 1")
}

fn seconds(backoff: &Backoff, count: usize) -> Vec<u64> {
    backoff.delays().take(count).map(|delay| delay.as_secs()).collect()
}

#[test]
fn a_fixed_backoff_is_always_the_same() {
    assert_eq!(seconds(&Backoff::fixed(7 * SECOND), 4), [7, 7, 7, 7]);
    assert_eq!(Backoff::fixed(7 * SECOND).delay(u32::MAX), 7 * SECOND);
    assert_eq!(seconds(&Backoff::fixed(7 * SECOND).cap(5 * SECOND), 2), [5, 5]);
}

#[test]
fn an_exponential_backoff_grows_by_its_factor_up_to_its_cap() {
    let doubling = Backoff::exponential(SECOND, 30 * SECOND);
    assert_eq!(seconds(&doubling, 7), [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(seconds(&doubling.factor(factor(3)), 5), [1, 3, 9, 27, 30]);
    assert_eq!(seconds(&doubling.factor(factor(1)), 3), [1, 1, 1]);
    assert_eq!(seconds(&Backoff::exponential(60 * SECOND, 30 * SECOND), 2), [30, 30]);
    assert_eq!(Backoff::exponential(Duration::ZERO, SECOND).delay(u32::MAX), Duration::ZERO);
}

#[test]
fn once_at_the_cap_a_backoff_stays_there() {
    for attempt in [5, 31, 32, 63, 64, 127, 128, 129, 1_000, u32::MAX] {
        assert_eq!(Backoff::exponential(SECOND, 30 * SECOND).delay(attempt), 30 * SECOND, "{attempt}");
    }
}

#[test]
fn no_attempt_overflows() {
    let longest = Backoff::exponential(SECOND, Duration::MAX).factor(NonZeroU32::MAX);
    assert_eq!(longest.delay(u32::MAX), Duration::MAX);
    for jitter in all_jitters(Duration::MAX) {
        for backoff in [longest, Backoff::fixed(Duration::MAX), Backoff::fixed(Duration::ZERO)] {
            for attempt in [0, 1, 31, 32, 63, 64, 65, u32::MAX - 1, u32::MAX] {
                backoff.jitter(jitter, u64::MAX).delay(attempt);
            }
        }
    }
}

#[test]
fn the_rule_of_a_public_fax_api_can_be_said() {
    // min(1 s · 2^attempt + jitter of 0 to 1 s, 30 s), five attempts
    for seed in 0..200 {
        let backoff = Backoff::exponential(SECOND, 30 * SECOND).jitter(Jitter::Additive(SECOND), seed);
        for (attempt, delay) in (0..).zip(backoff.delays().take(8)) {
            let plain = (SECOND * 2_u32.pow(attempt)).min(30 * SECOND);
            assert!((plain..=(plain + SECOND).min(30 * SECOND)).contains(&delay), "{attempt}: {delay:?}");
        }
    }
}

#[test]
fn additive_jitter_on_a_fixed_delay_has_room_above_it() {
    let delays: HashSet<_> =
        Backoff::fixed(5 * SECOND).jitter(Jitter::Additive(SECOND), 1).delays().take(50).collect();
    assert!(delays.iter().all(|delay| (5 * SECOND..=6 * SECOND).contains(delay)));
    assert!(delays.len() > 40);
}

#[test]
fn decorrelated_jitter_starts_at_the_base_grows_at_most_threefold_and_uses_the_room() {
    let mut longest = Duration::ZERO;
    for seed in 0..100 {
        let backoff = Backoff::exponential(SECOND, 60 * SECOND).jitter(Jitter::Decorrelated, seed);
        let mut before = SECOND;
        for delay in backoff.delays().take(64) {
            assert!((SECOND..=3 * before).contains(&delay), "{delay:?} after {before:?}");
            before = delay;
            longest = longest.max(delay);
        }
        // It begins again from the cap, not from the base.
        assert!(backoff.delay(64) <= 60 * SECOND);
    }
    assert!(longest > 50 * SECOND);
}

#[test]
fn full_and_equal_jitter_spread_over_their_whole_range() {
    let spread = |jitter| {
        let backoff = Backoff::fixed(100 * SECOND);
        let delays: Vec<_> = (0..2_000).map(|seed| backoff.jitter(jitter, seed).delay(3)).collect();
        (delays.iter().min().unwrap().as_secs(), delays.iter().max().unwrap().as_secs())
    };
    assert_eq!(spread(Jitter::Full), (0, 99));
    assert_eq!(spread(Jitter::Equal), (50, 99));
}

#[test]
fn the_same_seed_gives_the_same_delays_in_every_version() {
    let full = Backoff::exponential(SECOND, 30 * SECOND).jitter(Jitter::Full, 42);
    let nanos: Vec<_> = full.delays().take(3).map(|delay| delay.as_nanos()).collect();
    assert_eq!(nanos, [959_437_221, 238_191_930, 2_085_395_981]);
    assert_eq!(full.seed(42), full);
    assert_ne!(full.seed(43).delay(0), full.delay(0));
}

fn all_jitters(most: Duration) -> [Jitter; 5] {
    [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::Additive(most)]
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..5_000_u64).prop_map(Duration::from_millis),
        (0..1_000_u64).prop_map(Duration::from_nanos),
        (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
    ]
}

fn attempt() -> impl Strategy<Value = u32> {
    prop_oneof![0..200_u32, any::<u32>(), Just(u32::MAX)]
}

proptest! {
    #[test]
    fn no_jitter_passes_the_cap(
        (base, cap, most) in (duration(), duration(), duration()),
        times in 1..=u32::MAX,
        seed in any::<u64>(),
        attempt in attempt(),
    ) {
        for jitter in all_jitters(most) {
            let growing = Backoff::exponential(base, cap).factor(factor(times)).jitter(jitter, seed);
            prop_assert!(growing.delay(attempt) <= cap, "{:?}", jitter);
            let fixed = Backoff::fixed(base).cap(cap).jitter(jitter, seed);
            prop_assert!(fixed.delay(attempt) <= cap, "{:?}", jitter);
            let uncapped = Backoff::fixed(base).jitter(jitter, seed).delay(attempt);
            let room = if let Jitter::Additive(most) = jitter { most } else { Duration::ZERO };
            prop_assert!(uncapped <= base.saturating_add(room), "{:?}", jitter);
        }
    }

    #[test]
    fn each_jitter_stays_within_what_it_says(
        (base, cap, most) in (duration(), duration(), duration()),
        seed in any::<u64>(),
        attempt in attempt(),
    ) {
        let backoff = Backoff::exponential(base, cap);
        let plain = backoff.delay(attempt);
        let delay = |jitter| backoff.jitter(jitter, seed).delay(attempt);
        prop_assert!(delay(Jitter::Full) <= plain);
        prop_assert!((plain / 2..=plain).contains(&delay(Jitter::Equal)));
        prop_assert!((base.min(cap)..=cap).contains(&delay(Jitter::Decorrelated)));
        prop_assert!((plain..=plain.saturating_add(most).min(cap)).contains(&delay(Jitter::Additive(most))));
    }

    #[test]
    fn the_iterator_and_the_single_delay_agree(seed in any::<u64>(), most in duration()) {
        for jitter in all_jitters(most) {
            let backoff = Backoff::exponential(SECOND, 60 * SECOND).jitter(jitter, seed);
            for (attempt, delay) in (0..).zip(backoff.delays().take(130)) {
                prop_assert_eq!(delay, backoff.delay(attempt));
            }
        }
    }
}
