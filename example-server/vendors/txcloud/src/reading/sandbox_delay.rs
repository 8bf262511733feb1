//! `metadata.sandbox_delay_ms`: how long a request with a test key waits before it takes effect and
//! is answered. It lets clients test what they do in the meantime.

use std::ops::RangeInclusive;
use std::time::Duration;

use platform::api_key::Environment;

use super::{Field, Object};
use crate::errors::Failure;

const MILLISECONDS: RangeInclusive<u32> = 0..=5_000;

/// Returns the requested delay.
///
/// # Errors
/// If the field is not a whole number within the bounds. Any other error in the body is left to the
/// operation to report.
pub(super) fn requested(environment: Environment, body: &[u8]) -> Result<Duration, Failure> {
    let metadata = match environment {
        Environment::Live => None,
        Environment::Test => Object::body(body).ok().and_then(|body| body.optional("metadata")),
    };
    let Some(Ok(metadata)) = metadata.map(Field::object) else { return Ok(Duration::ZERO) };
    let delay = metadata.optional("sandbox_delay_ms").map(|field| field.integer(MILLISECONDS)).transpose()?;
    Ok(Duration::from_millis(delay.unwrap_or_default().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(environment: Environment, delay: &str) -> Result<u128, String> {
        let body = format!("{{\"metadata\":{{\"sandbox_delay_ms\":{delay}}}}}");
        let asked = requested(environment, body.as_bytes());
        asked.map(|delay| delay.as_millis()).map_err(|failure| failure.param.unwrap_or_default())
    }

    #[test]
    fn a_test_key_waits_for_a_whole_number_of_milliseconds() {
        for (delay, expected) in [("0", 0), ("250", 250), ("5000", 5_000), ("null", 0)] {
            assert_eq!(milliseconds(Environment::Test, delay), Ok(expected), "{delay}");
        }
        for delay in ["5001", "-1", "1.5", "1e3", "\"250\"", "[]", "99999999999"] {
            let param = Err("metadata.sandbox_delay_ms".to_owned());
            assert_eq!(milliseconds(Environment::Test, delay), param, "{delay}");
            assert_eq!(milliseconds(Environment::Live, delay), Ok(0), "{delay}");
        }
    }

    #[test]
    fn other_errors_are_left_to_the_operation() {
        for body in ["", "[]", "{", "{\"metadata\":1}", "{\"metadata\":{}}", "{}"] {
            assert_eq!(requested(Environment::Test, body.as_bytes()).ok(), Some(Duration::ZERO), "{body}");
        }
    }
}
