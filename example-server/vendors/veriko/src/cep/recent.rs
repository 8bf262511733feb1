//! The results of recent queries, from which Banxico's availability is derived.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::CepVerdict;
use platform::clock;

/// The last 200 queries of this process that ended in the last 15 minutes. They only describe the
/// present, so losing them in a restart is acceptable.
#[derive(Debug, Default)]
pub struct Recent {
    queries: Mutex<VecDeque<Query>>,
}

/// One query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// When it ended.
    pub at: Timestamp,
    /// The verdict.
    pub verdict: CepVerdict,
    /// How long it took.
    pub took: Duration,
}

impl Recent {
    const MAX_QUERIES: usize = 200;
    const MAX_AGE: SignedDuration = SignedDuration::from_mins(15);

    /// Records a query that ends now.
    pub fn record(&self, verdict: CepVerdict, took: Duration) {
        self.push(Query { at: clock::timestamp(), verdict, took });
    }

    /// Returns the queries, oldest first.
    pub fn snapshot(&self) -> Vec<Query> {
        self.at(clock::timestamp())
    }

    fn push(&self, query: Query) {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        if queries.len() == Self::MAX_QUERIES {
            queries.pop_front();
        }
        queries.push_back(query);
    }

    fn at(&self, now: Timestamp) -> Vec<Query> {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        // If the clock was set back, some queries lie in the future. They are as good as any other.
        queries.retain(|query| now.duration_since(query.at) <= Self::MAX_AGE);
        queries.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(second: i64) -> Query {
        let at = Timestamp::from_second(second).unwrap();
        Query { at, verdict: CepVerdict::Valid, took: Duration::from_millis(5) }
    }

    #[test]
    fn the_last_two_hundred_queries_are_kept() {
        let recent = Recent::default();
        for second in 0..250 {
            recent.push(query(second));
        }
        let kept = recent.at(Timestamp::from_second(250).unwrap());
        assert_eq!(kept, (50..250).map(query).collect::<Vec<_>>());
    }

    #[test]
    fn after_a_quarter_of_an_hour_a_query_is_forgotten() {
        let recent = Recent::default();
        recent.push(query(0));
        recent.push(query(60));
        assert_eq!(recent.at(Timestamp::from_second(900).unwrap()).len(), 2);
        assert_eq!(recent.at(Timestamp::from_second(901).unwrap()), [query(60)]);
        assert_eq!(recent.at(Timestamp::from_second(961).unwrap()), []);
    }

    #[test]
    fn a_recorded_query_is_in_the_snapshot() {
        let recent = Recent::default();
        recent.record(CepVerdict::RateLimited, Duration::from_secs(2));
        let [query] = recent.snapshot()[..] else { panic!("one was recorded") };
        assert_eq!((query.verdict, query.took), (CepVerdict::RateLimited, Duration::from_secs(2)));
    }
}
