//! A payment API behind the layer, and in front of it a network that does what it is told.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use idempotency_layer::{Contract, IdempotencyLayer, MemoryStore};
use tokio::net::TcpListener;
use tokio::sync::RwLock;
use tower::ServiceExt;

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The connection is cut before the request reaches anything.
    DropBefore,
    /// The handler runs, and the connection is cut instead of an answer.
    DropAfter,
    /// The handler answers this, and has done nothing.
    Answer(u16),
    /// The server says to come back later.
    Busy { seconds: u64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Payments>,
}

#[derive(Debug, Default)]
struct Payments {
    faults: Mutex<VecDeque<Fault>>,
    /// What was paid, and how often: a payment of the test has an amount of its own, or is the only one.
    paid: Mutex<HashMap<String, usize>>,
    /// Whoever holds this for writing holds every handler.
    held: Arc<RwLock<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Payments::default());
        let idempotency = IdempotencyLayer::builder(MemoryStore::default())
            .contract(Contract::veriko())
            .single_tenant()
            .lease(Duration::from_secs(30))
            .build();
        let app = Router::new()
            .route("/payments", post(pay))
            .route_layer(idempotency)
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let network = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (app, network) = (app.clone(), Arc::clone(&network));
                let service = service_fn(move |request| serve(app.clone(), Arc::clone(&network), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state }
    }

    /// What happens to the next requests, one each.
    pub(crate) fn plan(&self, faults: &[Fault]) {
        *self.state.faults.lock().unwrap() = faults.iter().copied().collect();
    }

    /// So many faults of every kind, in no order; after them, all goes well.
    pub(crate) fn plan_at_random(&self, many: usize) {
        use std::hash::{BuildHasher, RandomState};
        let random = RandomState::new();
        let kinds = [Fault::DropBefore, Fault::DropAfter, Fault::Answer(500), Fault::Busy { seconds: 0 }];
        let faults = (0..many).map(|number| kinds[usize::try_from(random.hash_one(number) % 4).unwrap()]);
        *self.state.faults.lock().unwrap() = faults.collect();
    }

    /// No handler ends until what is returned is dropped.
    pub(crate) fn hold(&self) -> impl Drop + Send + use<> {
        Arc::clone(&self.state.held).try_write_owned().unwrap()
    }

    /// Payments made.
    pub(crate) fn effects(&self) -> usize {
        self.state.paid.lock().unwrap().values().sum()
    }

    /// Payments made more than once.
    pub(crate) fn twice(&self) -> usize {
        self.state.paid.lock().unwrap().values().filter(|times| **times > 1).count()
    }
}

/// The handler: pays, and answers with the number of the payment.
async fn pay(State(payments): State<Arc<Payments>>, request: axum::extract::Request) -> Response<Body> {
    if let Some(Planned(status)) = request.extensions().get() {
        return Response::builder().status(*status).body(Body::empty()).unwrap();
    }
    drop(payments.held.read().await);
    let amount = request.into_body().collect().await.unwrap().to_bytes();
    let number = {
        let mut paid = payments.paid.lock().unwrap();
        *paid.entry(String::from_utf8(amount.to_vec()).unwrap()).or_default() += 1;
        paid.values().sum::<usize>()
    };
    Response::builder().status(StatusCode::CREATED).body(Body::from(number.to_string())).unwrap()
}

/// What the handler is to answer.
#[derive(Clone, Copy)]
struct Planned(StatusCode);

/// The network: an error of this cuts the connection.
async fn serve(
    app: Router,
    network: Arc<Payments>,
    request: Request<hyper::body::Incoming>,
) -> io::Result<Response<Body>> {
    let cut = || io::Error::from(io::ErrorKind::ConnectionReset);
    let mut request = request.map(Body::new);
    let fault = network.faults.lock().unwrap().pop_front();
    match fault {
        Some(Fault::DropBefore) => return Err(cut()),
        Some(Fault::Answer(status)) => {
            request.extensions_mut().insert(Planned(StatusCode::from_u16(status).unwrap()));
        }
        Some(Fault::Busy { seconds }) => {
            let busy = Response::builder().status(429).header(header::RETRY_AFTER, seconds);
            return Ok(busy.body(Body::empty()).unwrap());
        }
        Some(Fault::DropAfter) | None => {}
    }
    let response = app.oneshot(request).await.unwrap();
    if matches!(fault, Some(Fault::DropAfter)) { Err(cut()) } else { Ok(response) }
}
