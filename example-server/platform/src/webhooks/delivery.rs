//! What is sent to an endpoint, and what came of it.

use std::fmt;

use jiff::Timestamp;

use crate::text::text_enum;

/// One event for one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub endpoint: String,
    pub endpoint_url: String,
    pub event: String,
    pub subject: Option<String>,
    pub status: DeliveryStatus,
    /// The number of the last try; 1 before the first too.
    pub attempt: u32,
    pub response_status: Option<u16>,
    pub response_body: Option<String>,
    pub response_time_ms: Option<u64>,
    pub next_retry_at: Option<Timestamp>,
    pub error_message: Option<String>,
    pub created_at: Timestamp,
}

text_enum! {
    /// Where a delivery stands.
    pub enum DeliveryStatus {
        /// It was not sent yet.
        Pending = "pending",
        /// It was sent, was not taken, and will be sent again.
        Retrying = "retrying",
        /// It was taken.
        Success = "success",
        /// It was not taken, and is not sent any more.
        Failed = "failed",
    }
}

/// What a delivery is known by, to its receiver too: a number that grows with the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryId(pub i64);

impl DeliveryId {
    /// Below the milliseconds, which leaves them room until the year 2109.
    const CHANCE_BITS: u32 = 21;

    /// One of this time. Two of the same millisecond are the same once in two million: whoever keeps one looks.
    pub fn random(epoch_millis: i64) -> Self {
        let mut chance = [0; 4];
        chance.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..4]);
        let chance = u32::from_be_bytes(chance) >> (u32::BITS - Self::CHANCE_BITS);
        Self((epoch_millis << Self::CHANCE_BITS) | i64::from(chance))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positive_and_grow_with_the_time() {
        let day: Timestamp = "2109-01-01T00:00:00Z".parse().unwrap();
        let last = day.as_millisecond();
        let ids = [1, 2, 1_700_000_000_000, last - 1, last].map(|millis| DeliveryId::random(millis).0);
        assert!(ids[0] > 0 && ids.is_sorted(), "{ids:?}");
        assert_ne!(DeliveryId::random(1), DeliveryId::random(1));
    }
}
