use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName, StatusCode};

/// When an answer is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// Never: it is the answer.
    Never,
    /// Always.
    Always,
    /// If it says when, in a `Retry-After` that can be read.
    RetryAfter,
}

/// Which answers are worth another try: of the rows that a status is in, the last counts.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    rows: Vec<(RangeInclusive<u16>, When)>,
    /// A header by which the server decides, whatever the rows say.
    obeyed: Option<HeaderName>,
}

impl Default for Rules {
    fn default() -> Self {
        let rows = vec![
            (409..=409, When::RetryAfter),
            (429..=429, When::Always),
            (500..=500, When::Always),
            (502..=504, When::Always),
        ];
        Self { rows, obeyed: None }
    }
}

impl Rules {
    pub(super) fn set(&mut self, statuses: RangeInclusive<u16>, when: When) {
        self.rows.push((statuses, when));
    }

    pub(super) fn obey(&mut self, header: HeaderName) {
        self.obeyed = Some(header);
    }

    /// Whether this answer is worth another try; `says_when`: it has a `Retry-After`.
    pub(super) fn worth_another(&self, status: StatusCode, headers: &HeaderMap, says_when: bool) -> bool {
        let told = self.obeyed.as_ref().and_then(|name| headers.get(name)).map(http::HeaderValue::as_bytes);
        match told {
            Some(b"true") => return true,
            Some(b"false") => return false,
            _ => {}
        }
        let row = self.rows.iter().rev().find(|(statuses, _)| statuses.contains(&status.as_u16()));
        match row.map_or(When::Never, |(_, when)| *when) {
            When::Never => false,
            When::Always => true,
            When::RetryAfter => says_when,
        }
    }
}
