//! The provider of the sandbox: the tracking key determines the answer.

mod receipt;

use std::time::Duration;

use async_trait::async_trait;

use super::payment::{Payment, TrackingKey};
use super::{Answer, CepVerdict, Provider};

/// A provider that derives its answer from the last words of the tracking key. Each word is in
/// upper case and follows a hyphen:
///
/// | word | answer |
/// |---|---|
/// | none | `Valid` |
/// | `-NOTFOUND` | `NotFound` |
/// | `-UNAVAILABLE` | `CepUnavailable` |
/// | `-ERROR` | `Error` |
/// | `-RETURNED` | `Returned` |
/// | `-RATELIMITED` | `RateLimited` |
/// | `-VALIDAFTER2` | `NotFound` to the first two queries, `Valid` from the third on |
/// | `-SLOW500` | the answer without this word, half a second later |
///
/// `-SLOW500` combines with any other word, before or after it: `-SLOW500-NOTFOUND`. Of two other
/// words, the last one counts. A payment without a tracking key is `Valid`. A `Valid` answer has a
/// CEP that is generated from the payment and says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sandbox;

enum Rule {
    /// The answers to the first, second and later queries. The last one repeats.
    Answers(&'static [CepVerdict]),
    Wait(Duration),
}

const RULES: &[(&str, Rule)] = &[
    ("NOTFOUND", Rule::Answers(&[CepVerdict::NotFound])),
    ("UNAVAILABLE", Rule::Answers(&[CepVerdict::CepUnavailable])),
    ("ERROR", Rule::Answers(&[CepVerdict::Error])),
    ("RETURNED", Rule::Answers(&[CepVerdict::Returned])),
    ("RATELIMITED", Rule::Answers(&[CepVerdict::RateLimited])),
    ("VALIDAFTER2", Rule::Answers(&[CepVerdict::NotFound, CepVerdict::NotFound, CepVerdict::Valid])),
    ("SLOW500", Rule::Wait(Duration::from_millis(500))),
];

#[async_trait]
impl Provider for Sandbox {
    async fn ask(&self, payment: &Payment, asked: u32) -> Answer {
        let (verdict, wait) = answer(payment.clave_rastreo().map_or("", TrackingKey::as_str), asked);
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        match verdict {
            CepVerdict::Valid => receipt::of(payment).into(),
            verdict => verdict.into(),
        }
    }
}

fn answer(key: &str, asked: u32) -> (CepVerdict, Option<Duration>) {
    let mut answers: Option<&[CepVerdict]> = None;
    let mut wait = None;
    let mut rest = key;
    while let Some((before, word)) = rest.rsplit_once('-') {
        match RULES.iter().find(|(name, _)| *name == word) {
            // Words are read from last to first, so an earlier match takes precedence.
            Some((_, Rule::Answers(list))) => answers = answers.or(Some(*list)),
            Some((_, Rule::Wait(duration))) => wait = Some(*duration),
            None => break,
        }
        rest = before;
    }
    let nth = usize::try_from(asked.saturating_sub(1)).unwrap_or(usize::MAX);
    let verdict = answers.and_then(|list| list.get(nth).or(list.last())).copied();
    (verdict.unwrap_or(CepVerdict::Valid), wait)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::payment::restore;

    const SLOW: Option<Duration> = Some(Duration::from_millis(500));

    #[test]
    fn the_last_words_of_the_key_are_the_answer() {
        let cases = [
            ("MXBA20250315001234", CepVerdict::Valid, None),
            ("", CepVerdict::Valid, None),
            ("A-1-NOTFOUND", CepVerdict::NotFound, None),
            ("A-1-UNAVAILABLE", CepVerdict::CepUnavailable, None),
            ("A-1-ERROR", CepVerdict::Error, None),
            ("A-1-RETURNED", CepVerdict::Returned, None),
            ("A-1-RATELIMITED", CepVerdict::RateLimited, None),
            ("A-1-SLOW500", CepVerdict::Valid, SLOW),
            ("A-1-SLOW500-NOTFOUND", CepVerdict::NotFound, SLOW),
            ("A-1-NOTFOUND-SLOW500", CepVerdict::NotFound, SLOW),
            ("A-1-NOTFOUND-ERROR", CepVerdict::Error, None),
            ("-NOTFOUND", CepVerdict::NotFound, None),
            // A word follows a hyphen, is in upper case, and only other words may come after it.
            ("NOTFOUND", CepVerdict::Valid, None),
            ("ANOTFOUND", CepVerdict::Valid, None),
            ("A-notfound", CepVerdict::Valid, None),
            ("A-NOTFOUND-1", CepVerdict::Valid, None),
            ("A-NOTFOUND-", CepVerdict::Valid, None),
            ("A-ERROR-1-NOTFOUND", CepVerdict::NotFound, None),
        ];
        for (key, verdict, wait) in cases {
            for asked in [1, 2, 3, u32::MAX] {
                assert_eq!(answer(key, asked), (verdict, wait), "{key} {asked}");
            }
        }
    }

    #[test]
    fn valid_after_two_is_valid_from_the_third_query_on() {
        for (asked, verdict) in [
            (0, CepVerdict::NotFound),
            (1, CepVerdict::NotFound),
            (2, CepVerdict::NotFound),
            (3, CepVerdict::Valid),
            (4, CepVerdict::Valid),
            (u32::MAX, CepVerdict::Valid),
        ] {
            assert_eq!(answer("A-VALIDAFTER2", asked), (verdict, None), "{asked}");
            assert_eq!(answer("A-SLOW500-VALIDAFTER2", asked), (verdict, SLOW), "{asked}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_slow_answer_takes_half_a_second() {
        let provider: Box<dyn Provider> = Box::new(Sandbox);
        let ask = async |key: &str, at_most| -> Option<CepVerdict> {
            let asked_for = format!(r#"{{"fecha":"2025-03-15","monto":1,{key}}}"#);
            let payment = restore(&asked_for).unwrap();
            let answer = timeout(Duration::from_millis(at_most), provider.ask(&payment, 1)).await.ok()?;
            assert_eq!(answer.cep.is_some(), answer.verdict == CepVerdict::Valid);
            Some(answer.verdict)
        };
        assert_eq!(ask(r#""clave_rastreo":"A-SLOW500-RETURNED""#, 499).await, None);
        assert_eq!(ask(r#""clave_rastreo":"A-SLOW500-RETURNED""#, 501).await, Some(CepVerdict::Returned));
        assert_eq!(ask(r#""clave_rastreo":"A-RETURNED""#, 0).await, Some(CepVerdict::Returned));
        assert_eq!(ask(r#""referencia_numerica":"1234567""#, 0).await, Some(CepVerdict::Valid));
    }
}
