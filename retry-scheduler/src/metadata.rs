//! Small texts beside a payload.

use std::collections::BTreeMap;

use crate::bounds::check_no_nul;
use crate::error::SchedulerError;

/// A small ordered map of text to text that travels with a cycle, beside its payload: trace
/// context, for example.
///
/// ```
/// use retry_scheduler::Metadata;
///
/// let metadata = Metadata::from([("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]);
/// assert!(metadata.get("traceparent").is_some());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// The most entries.
    pub const MAX_ENTRIES: usize = 16;
    /// The most bytes of all names and values together.
    pub const MAX_BYTES: usize = 4 * 1024;

    /// Creates an empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, or replaces the one of the same name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Returns the value of an entry.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Iterates over names and values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the bounds. Every scheduler does this before it schedules a cycle.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::SchedulerErrorKind::Invalid) when there are more than [`MAX_ENTRIES`](Self::MAX_ENTRIES), when
    /// they have more than [`MAX_BYTES`](Self::MAX_BYTES), or when a text contains a NUL.
    pub fn check(&self) -> Result<(), SchedulerError> {
        if self.0.len() > Self::MAX_ENTRIES {
            return Err(SchedulerError::invalid(format!(
                "the metadata has more than {} entries",
                Self::MAX_ENTRIES
            )));
        }
        if self.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > Self::MAX_BYTES {
            return Err(SchedulerError::invalid(format!(
                "the metadata is longer than {} bytes",
                Self::MAX_BYTES
            )));
        }
        self.iter().try_for_each(|(name, value)| {
            check_no_nul("name of a metadata entry", name)?;
            check_no_nul("value of a metadata entry", value)
        })
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl<N: Into<String>, V: Into<String>, const COUNT: usize> From<[(N, V); COUNT]> for Metadata {
    fn from(entries: [(N, V); COUNT]) -> Self {
        entries.into_iter().collect()
    }
}
