//! `Retry-After`, read and written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use account_retry_policy::{RetryAfter, RetryAfterErrorKind};
use proptest::prelude::*;

/// The moment of the examples in RFC 9110.
const EXAMPLE: u64 = 784_111_777;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn seconds_are_read_however_large() {
    for (text, seconds) in [
        ("0", 0),
        ("120", 120),
        ("007", 7),
        (" 5\t", 5),
        ("18446744073709551615", u64::MAX),
        ("18446744073709551616", u64::MAX),
        (&"9".repeat(10_000), u64::MAX),
    ] {
        let read: RetryAfter = text.parse().unwrap();
        assert_eq!(read, RetryAfter::seconds(seconds));
        assert_eq!(read.delay(at(EXAMPLE)), Duration::from_secs(seconds));
    }
}

#[test]
fn the_three_forms_of_a_date_are_read_and_one_is_written() {
    for text in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT ",
    ] {
        let read: RetryAfter = text.parse().unwrap();
        assert_eq!(read.delay(at(EXAMPLE - 90)), Duration::from_secs(90), "{text}");
        assert_eq!(read.to_string(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}

#[test]
fn a_date_that_has_passed_is_no_wait_and_a_fraction_of_now_counts() {
    let date = RetryAfter::at(at(EXAMPLE)).unwrap();
    assert_eq!(date.delay(at(EXAMPLE)), Duration::ZERO);
    assert_eq!(date.delay(at(EXAMPLE + 1_000_000)), Duration::ZERO);
    assert_eq!(date.delay(at(EXAMPLE - 1) + Duration::from_millis(250)), Duration::from_millis(750));
}

#[test]
fn anything_else_is_an_error() {
    for text in [
        "",
        " ",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "0x10",
        "5s",
        "5, 6",
        "1 2",
        "١٢",
        "soon",
        "\n5",
        "1994-11-06T08:49:37Z",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +0100",
    ] {
        let error = text.parse::<RetryAfter>().unwrap_err();
        assert_eq!(error.kind(), RetryAfterErrorKind::Malformed, "{text:?}");
    }
}

#[test]
fn a_fraction_is_rounded_up_so_that_nobody_comes_back_too_early() {
    for (millis, text) in [(0, "0"), (1, "1"), (1_000, "1"), (1_001, "2"), (1_999, "2")] {
        assert_eq!(RetryAfter::after(Duration::from_millis(millis)).to_string(), text);
    }
    assert_eq!(RetryAfter::after(Duration::MAX), RetryAfter::seconds(u64::MAX));
    let date = RetryAfter::at(at(EXAMPLE) - Duration::from_nanos(1)).unwrap();
    assert_eq!(date.to_string(), "Sun, 06 Nov 1994 08:49:37 GMT");
}

#[test]
fn a_time_that_no_date_can_say_is_an_error_where_it_is_given() {
    let kind = |time| RetryAfter::at(time).map_err(|error| error.kind());
    let last = at(253_402_300_799);
    assert_eq!(kind(last).unwrap().to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(kind(last + Duration::from_nanos(1)), Err(RetryAfterErrorKind::OutOfRange));
    assert_eq!(kind(UNIX_EPOCH - Duration::from_nanos(1)), Err(RetryAfterErrorKind::OutOfRange));
    assert_eq!(kind(UNIX_EPOCH).unwrap().to_string(), "Thu, 01 Jan 1970 00:00:00 GMT");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in ".{0,40}") {
        if let Ok(read) = text.parse::<RetryAfter>() {
            prop_assert_eq!(read.to_string().parse::<RetryAfter>(), Ok(read));
        }
    }

    #[test]
    fn what_is_written_reads_back(seconds in any::<u64>(), date in 0..253_402_300_800_u64) {
        for value in [RetryAfter::seconds(seconds), RetryAfter::at(at(date)).unwrap()] {
            prop_assert_eq!(value.to_string().parse::<RetryAfter>(), Ok(value));
        }
    }
}
