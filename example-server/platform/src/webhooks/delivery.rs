//! Deliveries: events sent to endpoints, and their outcomes.

use std::fmt;

use jiff::Timestamp;

use crate::text::text_enum;

/// The delivery of one event to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub endpoint: String,
    pub endpoint_url: String,
    pub event: String,
    pub subject: Option<String>,
    pub status: DeliveryStatus,
    /// The number of the last attempt. It is 1 even before the first attempt.
    pub attempt: u32,
    pub response_status: Option<u16>,
    pub response_body: Option<String>,
    pub response_time_ms: Option<u64>,
    pub next_retry_at: Option<Timestamp>,
    pub error_message: Option<String>,
    pub created_at: Timestamp,
}

text_enum! {
    /// The status of a delivery.
    pub enum DeliveryStatus {
        /// Not sent yet.
        Pending = "pending",
        /// Sent and not accepted. It will be sent again.
        Retrying = "retrying",
        /// Accepted by the receiver.
        Success = "success",
        /// Not accepted, and not retried any more.
        Failed = "failed",
    }
}

/// The id of a delivery, which the receiver gets, too. Ids increase with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryId(pub i64);

impl DeliveryId {
    /// The number of random bits below the milliseconds. The milliseconds fit until the year 2109.
    const RANDOM_BITS: u32 = 21;

    /// Generates an id for this time. Two ids of the same millisecond collide with a probability of
    /// one in two million, so an insert must check for a conflict.
    pub fn random(epoch_millis: i64) -> Self {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..4]);
        let random = u32::from_be_bytes(bytes) >> (u32::BITS - Self::RANDOM_BITS);
        Self((epoch_millis << Self::RANDOM_BITS) | i64::from(random))
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
    fn ids_are_positive_and_increase_with_time() {
        let day: Timestamp = "2109-01-01T00:00:00Z".parse().unwrap();
        let last = day.as_millisecond();
        let ids = [1, 2, 1_700_000_000_000, last - 1, last].map(|millis| DeliveryId::random(millis).0);
        assert!(ids[0] > 0 && ids.is_sorted(), "{ids:?}");
        assert_ne!(DeliveryId::random(1), DeliveryId::random(1));
    }
}
