//! Limits of request bodies, which apply before anything reads them. Refusals have no body; the
//! API's envelope adds the API's error body.

mod paced;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::HttpBody as _;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use tokio::time::timeout;

pub use self::paced::{TooSlow, pace};
use crate::places::{self, Places};
use crate::route::BodySize;
use crate::vendor::Caller;

/// Middleware that responds with 413 if `Content-Length` is over the limit, before any of the body
/// is read. A body without `Content-Length` is read up to the limit.
pub async fn limit_content_length(State(max_bytes): State<usize>, request: Request, next: Next) -> Response {
    let too_large = announced(request.headers()).is_some_and(|bytes| bytes > max_bytes as u64);
    if too_large { StatusCode::PAYLOAD_TOO_LARGE.into_response() } else { next.run(request).await }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The capacity for concurrent bodies of one API. One account can use a quarter of it.
#[derive(Debug, Clone)]
pub struct Room {
    /// Limits the bytes of bodies in memory.
    bytes: Arc<Places<String>>,
    /// Limits the number of large bodies.
    large: Arc<Places<String>>,
    /// Limits the number of streamed bodies.
    streamed: Arc<Places<String>>,
}

impl Room {
    /// Creates capacity for `large_bodies` large bodies, and for other bodies in proportion.
    pub fn new(large_bodies: usize) -> Self {
        let large_bodies = large_bodies as u64;
        // With a minimum, so that the quarter of one account is enough for a large body.
        let bytes = 2 * large_bodies.max(4) * BodySize::LARGE as u64;
        Self {
            bytes: Places::quartered(bytes),
            large: Places::quartered(large_bodies),
            streamed: Places::quartered(STREAMED_FOR_A_LARGE_ONE * large_bodies),
        }
    }

    /// Waits for capacity for the body of this account's request, and takes it.
    async fn take(&self, account: &String, body: Admission, announced: Option<u64>) -> BodyPermit {
        let bytes = match body.size {
            BodySize::Streamed(_) => STREAMED_BYTES,
            BodySize::Usual | BodySize::Large => announced.unwrap_or(body.max_bytes as u64),
        };
        let counted = match body.size {
            BodySize::Usual => None,
            BodySize::Large => Some(self.large.wait_with(account, 1).await),
            BodySize::Streamed(_) => Some(self.streamed.wait_with(account, 1).await),
        };
        let sized = self.bytes.wait_with(account, bytes).await;
        BodyPermit { _held: Arc::new((counted, sized)) }
    }
}

/// The body limits of a route.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    pub size: BodySize,
    /// The maximum body size of the route.
    pub max_bytes: usize,
}

/// A permit for one body. It frees its capacity when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct BodyPermit {
    _held: Arc<(Option<places::Place<String>>, places::Place<String>)>,
}

/// Marks a 503 without a body: the request got no [`BodyPermit`] in time. Set in the response's
/// extensions.
#[derive(Debug, Clone, Copy)]
pub struct BodyCapacityExceeded;

/// Middleware that waits for capacity for the request's body before any of it is read, and responds
/// with 503 if there is none in time.
///
/// A request waits for other requests of its account if they use the account's quarter, and for
/// requests of any account if all of the capacity is in use.
pub async fn admit<U: Caller>(
    State((room, admission)): State<(Room, Admission)>,
    Extension(user): Extension<U>,
    mut request: Request,
    next: Next,
) -> Response {
    // In HTTP/1.1, a request without a body has neither a length nor a transfer coding. It takes a place
    // nevertheless if its route has large bodies, because the handler may fetch a large picture instead.
    let is_empty = request.body().is_end_stream();
    if is_empty && admission.size == BodySize::Usual {
        return next.run(request).await;
    }
    let announced = if is_empty { Some(0) } else { announced(request.headers()) };
    let taken = room.take(user.account(), admission, announced);
    let Ok(place) = timeout(PATIENCE, taken).await else {
        let mut refusal = (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
        refusal.extensions_mut().insert(BodyCapacityExceeded);
        return refusal;
    };
    // The request carries the permit, so that it keeps it even if it continues without its client.
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    drop(place);
    response
}

/// The time-out for getting a permit.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of streamed bodies that may run in place of one large body.
const STREAMED_FOR_A_LARGE_ONE: u64 = 8;
/// The memory that a streamed body uses, in bytes.
const STREAMED_BYTES: u64 = 64 * 1024;

impl<S: Send + Sync> FromRequestParts<S> for BodyPermit {
    type Rejection = StatusCode;

    /// Fails only if the route is not behind [`admit`], which is a bug.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.remove().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use futures_util::{FutureExt, stream};
    use tokio::sync::Semaphore;
    use tower::ServiceExt;

    use super::*;
    use crate::account::KeyOwner;
    use crate::testing::{Acme, User};
    use crate::vendor::Vendor as _;

    fn usual() -> Admission {
        Admission { size: BodySize::Usual, max_bytes: 256 * 1024 }
    }

    fn large() -> Admission {
        Admission { size: BodySize::Large, max_bytes: BodySize::LARGE }
    }

    /// Takes as many permits as the account can get.
    fn many(room: &Room, account: &str, admission: Admission, announced: Option<u64>) -> Vec<BodyPermit> {
        let account = account.to_owned();
        std::iter::from_fn(|| room.take(&account, admission, announced).now_or_never()).collect()
    }

    #[test]
    fn large_bodies_of_one_account_leave_room_for_those_of_another() {
        let room = Room::new(8);
        let first = many(&room, "one", large(), None);
        let second = many(&room, "other", large(), None);
        assert_eq!((first.len(), second.len()), (2, 2));
        drop(first);
        assert_eq!(many(&room, "one", large(), None).len(), 2);
        assert_eq!(many(&Room::new(1), "one", large(), None).len(), 1, "there is always room for one");
    }

    #[test]
    fn usual_bodies_are_counted_by_their_bytes() {
        let room = Room::new(8);
        let announced = many(&room, "one", usual(), Some(128 * 1024));
        let unknown = many(&room, "other", usual(), None);
        assert_eq!(announced.len(), 2 * unknown.len(), "who does not say takes the most");
        assert!(!many(&room, "third", large(), None).is_empty());
    }

    #[test]
    fn uploads_of_one_account_leave_room_for_those_of_another() {
        let room = Room::new(8);
        let streamed = Admission { size: BodySize::Streamed(1), max_bytes: 1 };
        let first = many(&room, "one", streamed, None);
        let second = many(&room, "other", streamed, None);
        assert_eq!((first.len(), second.len()), (16, 16));
    }
    /// A route with body limits, whose handler waits for a permit of `go`. `running` has one permit for each
    /// handler that has begun.
    struct Held {
        room: Room,
        router: axum::Router,
        running: Arc<Semaphore>,
        go: Arc<Semaphore>,
    }

    impl Held {
        fn by(admission: Admission) -> Self {
            let (room, running, go) =
                (Room::new(8), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
            let (begun, end) = (Arc::clone(&running), Arc::clone(&go));
            let handler = async move || {
                begun.add_permits(1);
                end.acquire().await.unwrap().forget();
            };
            let layer = from_fn_with_state((room.clone(), admission), admit::<User>);
            Self { room, router: axum::Router::new().fallback(handler).layer(layer), running, go }
        }

        fn ask(&self, account: &str, body: Body) -> tokio::task::JoinHandle<StatusCode> {
            let request = http::Request::post("/").extension(user(account)).body(body).unwrap();
            let asked = self.router.clone().oneshot(request);
            tokio::spawn(async { asked.await.unwrap().status() })
        }
    }

    fn user(account: &str) -> User {
        let (_, owner) = Acme.demo().pop().unwrap();
        Acme.user(KeyOwner { account: account.to_owned(), ..owner })
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_body_takes_no_room() {
        let held = Held::by(usual());
        let full = many(&held.room, "one", usual(), None);
        held.go.add_permits(2);
        assert_eq!(held.ask("one", Body::empty()).await.unwrap(), StatusCode::OK);
        let chunked = Body::from_stream(stream::iter([Ok::<_, TooSlow>("{}")]));
        assert_eq!(held.ask("one", chunked).await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
        drop(full);

        let held = Held::by(large());
        held.go.add_permits(1);
        let before = held.room.bytes.taken_by_all();
        let asked = held.ask("one", Body::empty());
        held.running.acquire().await.unwrap().forget();
        assert_eq!(held.room.bytes.taken_by_all(), before, "not of bytes either, where it has a place");
        asked.await.unwrap();
    }

    /// The handler stands for one that fetches a picture, which can take long.
    #[tokio::test(start_paused = true)]
    async fn pictures_that_are_fetched_for_one_account_leave_places_for_others() {
        let held = Held::by(large());
        let body = || Body::from("{\"image_url\": \"https://slow.example\"}");
        let one: Vec<_> = (0..6).map(|_| held.ask("one", body())).collect();
        held.running.acquire_many(2).await.unwrap().forget();
        let other = held.ask("other", body());
        held.running.acquire().await.unwrap().forget();
        assert_eq!(held.running.available_permits(), 0, "the others of the first account wait");
        held.go.add_permits(3);
        assert_eq!(other.await.unwrap(), StatusCode::OK);
        held.running.acquire_many(2).await.unwrap().forget();
        tokio::time::sleep(PATIENCE).await;
        held.go.add_permits(10);
        let mut refused = 0;
        for asked in one {
            refused += u32::from(asked.await.unwrap() == StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(refused, 2, "they wait for so long and no longer");
    }
}
