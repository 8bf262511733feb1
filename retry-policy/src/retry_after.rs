use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The value of a `Retry-After` header (RFC 9110, section 10.2.3): a number of seconds, or a date.
///
/// Parses both, the date in all three forms of HTTP (section 5.6.7), and writes the one form that is allowed today. A number
/// beyond 64 bits becomes the largest one. White space around the value is ignored; signs, fractions and anything else are
/// errors. It reads no clock: [`delay`](Self::delay) takes the time.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use account_retry_policy::RetryAfter;
///
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
/// assert_eq!("120".parse::<RetryAfter>()?.delay(now), Duration::from_secs(120));
/// assert_eq!("Sun, 06 Nov 1994 08:49:37 GMT".parse::<RetryAfter>()?.delay(now), Duration::from_secs(7));
/// assert_eq!(RetryAfter::after(Duration::from_millis(1_200)).to_string(), "2");
/// # Ok::<(), account_retry_policy::RetryAfterError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(Form);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Seconds(u64),
    /// Whole seconds since 1970, within the range of an HTTP-date.
    Date(u64),
}

/// The first second of the year 10000, in seconds since 1970.
const END_OF_DATES: u64 = 253_402_300_800;

impl RetryAfter {
    /// Returns the value for a number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Form::Seconds(seconds))
    }

    /// Returns the value for a delay, in seconds. A fraction is rounded up, so that no client returns too early.
    pub const fn after(delay: Duration) -> Self {
        let up = if delay.subsec_nanos() > 0 { 1 } else { 0 };
        Self::seconds(delay.as_secs().saturating_add(up))
    }

    /// Returns the value for a time, as a date. A fraction of a second is rounded up.
    ///
    /// # Errors
    ///
    /// The time is before 1970 or after 9999: an HTTP-date cannot express it, or not so that others read it.
    pub fn at(time: SystemTime) -> Result<Self, RetryAfterError> {
        let since = time
            .duration_since(UNIX_EPOCH)
            .map_err(|_| RetryAfterError::new(RetryAfterErrorKind::OutOfRange))?;
        match Self::after(since).0 {
            Form::Seconds(seconds) if seconds < END_OF_DATES => Ok(Self(Form::Date(seconds))),
            _ => Err(RetryAfterError::new(RetryAfterErrorKind::OutOfRange)),
        }
    }

    /// Returns how long to wait at `now`; zero if the date has passed.
    pub fn delay(&self, now: SystemTime) -> Duration {
        match self.0 {
            Form::Seconds(seconds) => Duration::from_secs(seconds),
            Form::Date(_) => self.date().duration_since(now).unwrap_or_default(),
        }
    }

    /// Only for a date.
    fn date(&self) -> SystemTime {
        let (Form::Seconds(seconds) | Form::Date(seconds)) = self.0;
        UNIX_EPOCH + Duration::from_secs(seconds)
    }
}

impl FromStr for RetryAfter {
    type Err = RetryAfterError;

    fn from_str(value: &str) -> Result<Self, RetryAfterError> {
        let value = value.trim_matches([' ', '\t']);
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // Digits alone fail to parse only if there are too many.
            return Ok(Self::seconds(value.parse().unwrap_or(u64::MAX)));
        }
        let date = httpdate::parse_http_date(value)
            .map_err(|_| RetryAfterError::new(RetryAfterErrorKind::Malformed))?;
        Self::at(date)
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Form::Seconds(seconds) => seconds.fmt(f),
            Form::Date(_) => httpdate::HttpDate::from(self.date()).fmt(f),
        }
    }
}

/// The error of parsing or creating a [`RetryAfter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfterError {
    kind: RetryAfterErrorKind,
}

/// Why a value is not a [`RetryAfter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryAfterErrorKind {
    /// Neither a number of seconds nor an HTTP-date.
    Malformed,
    /// A time before 1970 or after 9999.
    OutOfRange,
}

impl RetryAfterError {
    const fn new(kind: RetryAfterErrorKind) -> Self {
        Self { kind }
    }

    /// Returns the kind.
    pub const fn kind(&self) -> RetryAfterErrorKind {
        self.kind
    }
}

impl fmt::Display for RetryAfterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RetryAfterErrorKind::Malformed => "neither a number of seconds nor an HTTP-date",
            RetryAfterErrorKind::OutOfRange => "an HTTP-date is not before 1970 and not after 9999",
        })
    }
}

impl Error for RetryAfterError {}
