//! The time format of the APIs.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A time that serialises as UTC with `Z` and without a fraction: `2025-03-15T14:22:10Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2025-03-15T14:22:10Z")]
pub struct Utc(pub Timestamp);

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.0}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_whole_seconds_with_a_z() {
        for (time, shown) in [
            ("2025-03-15T14:22:10Z", "2025-03-15T14:22:10Z"),
            ("2025-03-15T14:22:10.999999999Z", "2025-03-15T14:22:10Z"),
            ("2025-03-15T08:22:10.5-06:00", "2025-03-15T14:22:10Z"),
            ("2025-12-31T23:59:59.9Z", "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(serde_json::to_value(Utc(time.parse().unwrap())).unwrap(), shown);
        }
    }
}
