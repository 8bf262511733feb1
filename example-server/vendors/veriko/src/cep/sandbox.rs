//! The provider that asks nobody: the tracking key says what to answer.

mod receipt;

use std::time::Duration;

use async_trait::async_trait;

use super::payment::{Payment, TrackingKey};
use super::{Answer, Provider, Verdict};

/// Answers by the last words of the tracking key, each with its hyphen before it, in capitals:
///
/// | word | answer |
/// |---|---|
/// | none | `Valid` |
/// | `-NOTFOUND` | `NotFound` |
/// | `-UNAVAILABLE` | `CepUnavailable` |
/// | `-ERROR` | `Error` |
/// | `-RETURNED` | `Returned` |
/// | `-RATELIMITED` | `RateLimited` |
/// | `-VALIDAFTER2` | `NotFound` the first two times, `Valid` from the third on |
/// | `-SLOW500` | what it would be without it, half a second later |
///
/// `-SLOW500` goes with any of the others, on either side: `-SLOW500-NOTFOUND`. Of two others the last one counts. A
/// payment without a tracking key is `Valid`. With `Valid` comes a CEP that is made of the payment and says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sandbox;

enum Rule {
    /// The answers to the first, the second and so on; the last one stays.
    Answers(&'static [Verdict]),
    Wait(Duration),
}

const RULES: &[(&str, Rule)] = &[
    ("NOTFOUND", Rule::Answers(&[Verdict::NotFound])),
    ("UNAVAILABLE", Rule::Answers(&[Verdict::CepUnavailable])),
    ("ERROR", Rule::Answers(&[Verdict::Error])),
    ("RETURNED", Rule::Answers(&[Verdict::Returned])),
    ("RATELIMITED", Rule::Answers(&[Verdict::RateLimited])),
    ("VALIDAFTER2", Rule::Answers(&[Verdict::NotFound, Verdict::NotFound, Verdict::Valid])),
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
            Verdict::Valid => receipt::of(payment).into(),
            verdict => verdict.into(),
        }
    }
}

fn answer(key: &str, asked: u32) -> (Verdict, Option<Duration>) {
    let mut answers: Option<&[Verdict]> = None;
    let mut wait = None;
    let mut rest = key;
    while let Some((before, word)) = rest.rsplit_once('-') {
        match RULES.iter().find(|(name, _)| *name == word) {
            // From the last word to the first, so what is there already stays.
            Some((_, Rule::Answers(list))) => answers = answers.or(Some(*list)),
            Some((_, Rule::Wait(duration))) => wait = Some(*duration),
            None => break,
        }
        rest = before;
    }
    let nth = usize::try_from(asked.saturating_sub(1)).unwrap_or(usize::MAX);
    let verdict = answers.and_then(|list| list.get(nth).or(list.last())).copied();
    (verdict.unwrap_or(Verdict::Valid), wait)
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
            ("MXBA20250315001234", Verdict::Valid, None),
            ("", Verdict::Valid, None),
            ("A-1-NOTFOUND", Verdict::NotFound, None),
            ("A-1-UNAVAILABLE", Verdict::CepUnavailable, None),
            ("A-1-ERROR", Verdict::Error, None),
            ("A-1-RETURNED", Verdict::Returned, None),
            ("A-1-RATELIMITED", Verdict::RateLimited, None),
            ("A-1-SLOW500", Verdict::Valid, SLOW),
            ("A-1-SLOW500-NOTFOUND", Verdict::NotFound, SLOW),
            ("A-1-NOTFOUND-SLOW500", Verdict::NotFound, SLOW),
            ("A-1-NOTFOUND-ERROR", Verdict::Error, None),
            ("-NOTFOUND", Verdict::NotFound, None),
            // A word has its hyphen before it, is in capitals, and nothing but words comes after it.
            ("NOTFOUND", Verdict::Valid, None),
            ("ANOTFOUND", Verdict::Valid, None),
            ("A-notfound", Verdict::Valid, None),
            ("A-NOTFOUND-1", Verdict::Valid, None),
            ("A-NOTFOUND-", Verdict::Valid, None),
            ("A-ERROR-1-NOTFOUND", Verdict::NotFound, None),
        ];
        for (key, verdict, wait) in cases {
            for asked in [1, 2, 3, u32::MAX] {
                assert_eq!(answer(key, asked), (verdict, wait), "{key} {asked}");
            }
        }
    }

    #[test]
    fn valid_after_two_is_valid_from_the_third_asking_on_whoever_counts() {
        for (asked, verdict) in [
            (0, Verdict::NotFound),
            (1, Verdict::NotFound),
            (2, Verdict::NotFound),
            (3, Verdict::Valid),
            (4, Verdict::Valid),
            (u32::MAX, Verdict::Valid),
        ] {
            assert_eq!(answer("A-VALIDAFTER2", asked), (verdict, None), "{asked}");
            assert_eq!(answer("A-SLOW500-VALIDAFTER2", asked), (verdict, SLOW), "{asked}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_takes_half_a_second_and_no_other_takes_any() {
        let provider: Box<dyn Provider> = Box::new(Sandbox);
        let ask = async |key: &str, at_most| -> Option<Verdict> {
            let asked_for = format!(r#"{{"fecha":"2025-03-15","monto":1,{key}}}"#);
            let payment = restore(&asked_for).unwrap();
            let answer = timeout(Duration::from_millis(at_most), provider.ask(&payment, 1)).await.ok()?;
            assert_eq!(answer.cep.is_some(), answer.verdict == Verdict::Valid);
            Some(answer.verdict)
        };
        assert_eq!(ask(r#""clave_rastreo":"A-SLOW500-RETURNED""#, 499).await, None);
        assert_eq!(ask(r#""clave_rastreo":"A-SLOW500-RETURNED""#, 501).await, Some(Verdict::Returned));
        assert_eq!(ask(r#""clave_rastreo":"A-RETURNED""#, 0).await, Some(Verdict::Returned));
        assert_eq!(ask(r#""referencia_numerica":"1234567""#, 0).await, Some(Verdict::Valid));
    }
}
