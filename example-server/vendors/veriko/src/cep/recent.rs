//! How the last queries went, for who wants to know how Banxico does.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::CepVerdict;
use platform::clock;

/// The queries of this process: the last 200 of them, as far as they ended in the last 15 minutes. It is for a look at the
/// present, so a restart may lose it.
#[derive(Debug, Default)]
pub struct Recent {
    queries: Mutex<VecDeque<Query>>,
}

/// One query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// When it ended.
    pub at: Timestamp,
    /// What came of it.
    pub verdict: CepVerdict,
    /// How long it took.
    pub took: Duration,
}

impl Recent {
    const AT_MOST: usize = 200;
    const FOR: SignedDuration = SignedDuration::from_mins(15);

    /// Remembers a query that ends now.
    pub fn record(&self, verdict: CepVerdict, took: Duration) {
        self.remember(Query { at: clock::timestamp(), verdict, took });
    }

    /// Those there are, the earliest first.
    pub fn snapshot(&self) -> Vec<Query> {
        self.at(clock::timestamp())
    }

    fn remember(&self, query: Query) {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        if queries.len() == Self::AT_MOST {
            queries.pop_front();
        }
        queries.push_back(query);
    }

    fn at(&self, now: Timestamp) -> Vec<Query> {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back leaves some that have not been yet: they are as good as any.
        queries.retain(|query| now.duration_since(query.at) <= Self::FOR);
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
    fn the_last_two_hundred_are_remembered() {
        let recent = Recent::default();
        for second in 0..250 {
            recent.remember(query(second));
        }
        let there = recent.at(Timestamp::from_second(250).unwrap());
        assert_eq!(there, (50..250).map(query).collect::<Vec<_>>());
    }

    #[test]
    fn after_a_quarter_of_an_hour_a_query_is_forgotten() {
        let recent = Recent::default();
        recent.remember(query(0));
        recent.remember(query(60));
        assert_eq!(recent.at(Timestamp::from_second(900).unwrap()).len(), 2);
        assert_eq!(recent.at(Timestamp::from_second(901).unwrap()), [query(60)]);
        assert_eq!(recent.at(Timestamp::from_second(961).unwrap()), []);
    }

    #[test]
    fn what_is_recorded_is_in_the_snapshot() {
        let recent = Recent::default();
        recent.record(CepVerdict::RateLimited, Duration::from_secs(2));
        let [query] = recent.snapshot()[..] else { panic!("one was recorded") };
        assert_eq!((query.verdict, query.took), (CepVerdict::RateLimited, Duration::from_secs(2)));
    }
}
