use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Which responses of a status are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryWhen {
    /// None.
    Never,
    /// All.
    Always,
    /// Those with a `Retry-After` in a readable form.
    RetryAfter,
}

/// Which responses are retried. If several rows contain a status, the last one counts.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    rows: Vec<(RangeInclusive<u16>, RetryWhen)>,
    /// A header by which the server decides, whatever the rows say.
    override_header: Option<HeaderName>,
}

impl Default for Rules {
    fn default() -> Self {
        let rows = vec![
            // RFC 9110, section 15.5.9; RFC 8470, section 5.2; RFC 6585, section 4.
            (408..=408, RetryWhen::Always),
            (425..=425, RetryWhen::Always),
            (429..=429, RetryWhen::Always),
            // The same key is still in progress.
            (409..=409, RetryWhen::RetryAfter),
            (500..=500, RetryWhen::Always),
            (502..=504, RetryWhen::Always),
        ];
        Self { rows, override_header: None }
    }
}

impl Rules {
    pub(super) fn set(&mut self, statuses: RangeInclusive<u16>, when: RetryWhen) {
        self.rows.push((statuses, when));
    }

    pub(super) fn override_by(&mut self, header: HeaderName) {
        self.override_header = Some(header);
    }

    /// Whether this response is retried.
    pub(super) fn retries(&self, status: StatusCode, headers: &HeaderMap, has_retry_after: bool) -> bool {
        let decided = self.override_header.as_ref().and_then(|name| headers.get(name));
        match decided.map(HeaderValue::as_bytes) {
            Some(b"true") => return true,
            Some(b"false") => return false,
            _ => {}
        }
        let row = self.rows.iter().rev().find(|(statuses, _)| statuses.contains(&status.as_u16()));
        match row.map_or(RetryWhen::Never, |(_, when)| *when) {
            RetryWhen::Never => false,
            RetryWhen::Always => true,
            RetryWhen::RetryAfter => has_retry_after,
        }
    }
}
