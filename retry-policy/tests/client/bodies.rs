//! A body is cloned for a try that may follow, and for nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use account_retry_policy::client::Retries;
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt};

use crate::server::times;

/// Counts its clones.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

/// How often a body is cloned, and how often it is sent.
async fn clones(retries: Retries, statuses: &'static [u16]) -> (usize, usize) {
    let (cloned, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&sent);
    let server = tower::service_fn(move |_: Request<Counted>| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        let status = StatusCode::from_u16(statuses[number.min(statuses.len() - 1)]).unwrap();
        let response = Response::builder().status(status).body(String::new()).unwrap();
        std::future::ready(Ok::<_, std::io::Error>(response))
    });
    let request = Request::post("http://api.example.com/").body(Counted(Arc::clone(&cloned))).unwrap();
    retries.layer().layer(server).oneshot(request).await.unwrap();
    (cloned.load(Ordering::Relaxed), sent.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_body_is_cloned_only_for_a_try_that_can_follow() {
    assert_eq!(clones(Retries::new(), &[200]).await, (1, 1));
    assert_eq!(clones(Retries::new(), &[503, 200]).await, (2, 2));
    // The last try takes the request itself.
    assert_eq!(clones(Retries::new().max_tries(times(3)), &[503]).await, (2, 3));
    assert_eq!(clones(Retries::new().max_tries(times(1)), &[503]).await, (0, 1));
}
