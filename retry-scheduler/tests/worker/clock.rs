//! The one place of these tests that reads a clock.

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
