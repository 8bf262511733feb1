//! How the layer is configured.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use tokio_util::task::TaskTracker;
use tower_layer::Layer;

use crate::config::{Config, OnDisconnect, OnStoreFailure};
use crate::contract::{Classifier, Contract};
use crate::orphan::OnOrphan;
use crate::scope::Scope;
use crate::service::IdempotencyService;
use crate::store::Store;
use crate::wait::Waiters;

/// The layer. Cheap to clone; clones share store, waiters and the list of detached requests.
pub struct IdempotencyLayer<St> {
    config: Arc<Config<St>>,
}

/// A [`Builder`] that was not told whose keys they are: it does not build.
#[derive(Debug)]
pub struct Unscoped(());

/// A [`Builder`] that builds.
#[derive(Debug)]
pub struct Scoped(());

/// Makes an [`IdempotencyLayer`].
///
/// It does not build before it was told whose keys they are, with [`scope`](Self::scope) or, out loud, with
/// [`single_tenant`](Self::single_tenant):
///
/// ```compile_fail,E0599
/// use idempotency_layer::{IdempotencyLayer, MemoryStore};
///
/// let layer = IdempotencyLayer::builder(MemoryStore::default()).build();
/// ```
///
/// ```
/// use idempotency_layer::{IdempotencyLayer, MemoryStore, Scope};
///
/// #[derive(Clone)]
/// struct Account(String); // put into the extensions by your authentication
///
/// let layer = IdempotencyLayer::builder(MemoryStore::default())
///     .scope(|parts| parts.extensions.get::<Account>().map(|account| Scope::of(&account.0)))
///     .build();
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct Builder<St, S> {
    config: Config<St>,
    scoped: PhantomData<S>,
}

impl<St: Store> IdempotencyLayer<St> {
    /// Begins a layer that keeps its records in `store`.
    ///
    /// Where nothing else is said: the contract is [`Contract::ietf`], the lease 30 s, no waiting, at most 2 MiB of a
    /// request and 1 MiB of a response are read.
    pub fn builder(store: St) -> Builder<St, Unscoped> {
        Builder {
            config: Config {
                contract: Contract::ietf(),
                scope: Box::new(|_| None),
                when: None,
                store: Arc::new(store),
                lease: Duration::from_secs(30),
                wait: Duration::ZERO,
                max_request_bytes: 2 * 1024 * 1024,
                max_response_bytes: 1024 * 1024,
                max_detached: 1024,
                max_waiters: 1024,
                commits: Classifier::success_or_redirect(),
                on_orphan: OnOrphan::Rerun,
                on_disconnect: OnDisconnect::default(),
                on_store_failure: OnStoreFailure::default(),
                waiters: Waiters::default(),
                detached: TaskTracker::new(),
                given_up: TaskTracker::new(),
            },
            scoped: PhantomData,
        }
    }

    /// Waits until every request whose client disconnected has finished, and until every claim that could not be given
    /// back was given back. Call it after the server took its last request and before the program ends; bound it with a
    /// time-out, since a store that is down may hold it up.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it just stops waiting; it can be called again.
    pub async fn shutdown(&self) {
        let Config { detached, given_up, .. } = &*self.config;
        detached.close();
        detached.wait().await;
        // A request that was finishing may have given its claim up.
        given_up.close();
        given_up.wait().await;
    }

    /// Returns how many requests whose client disconnected are being finished, and claims given back after the store was
    /// not reached.
    pub fn detached(&self) -> usize {
        self.config.detached.len() + self.config.given_up.len()
    }
}

impl<St, S> Layer<S> for IdempotencyLayer<St> {
    type Service = IdempotencyService<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService::new(inner, self.config.clone())
    }
}

impl<St> Clone for IdempotencyLayer<St> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone() }
    }
}

impl<St> fmt::Debug for IdempotencyLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl<St> Builder<St, Unscoped> {
    /// Whose key it is, told from the head of the request; usually from an extension that authentication left there.
    ///
    /// Where the function names nobody, a request with a key is answered 500 and nothing runs: put authentication
    /// outside this layer, and let it refuse who it does not know.
    pub fn scope(
        mut self,
        scope: impl Fn(&Parts) -> Option<Scope> + Send + Sync + 'static,
    ) -> Builder<St, Scoped> {
        self.config.scope = Box::new(scope);
        Builder { config: self.config, scoped: PhantomData }
    }

    /// All clients are one: whoever sends a key gets what was stored under it. Only for a service with one client.
    pub fn single_tenant(self) -> Builder<St, Scoped> {
        self.scope(|_| Some(Scope::of("")))
    }
}

impl<St, S> Builder<St, S> {
    /// What the API promises about its keys.
    pub fn contract(mut self, contract: Contract) -> Self {
        self.config.contract = contract;
        self
    }

    /// Which requests are looked at, besides what the contract says of methods: of others the key means nothing.
    pub fn when(mut self, when: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.config.when = Some(Box::new(when));
        self
    }

    /// How long a claim holds when its process dies. While a handler runs, its lease is renewed every third of this.
    ///
    /// Short, a crash is soon recovered; too short, a busy runtime that misses two renewals loses claims, and a handler
    /// may then run twice. A handler that blocks its thread is not renewed either: give such work to `spawn_blocking`. At
    /// least 10 ms.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.lease = lease.max(Duration::from_millis(10));
        self
    }

    /// How long a request waits for another one with the same key before it is told that one is in progress. Zero,
    /// the default: not at all.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.config.wait = at_most;
        self
    }

    /// Sets how many requests wait for another one with the same key at a time, by [`wait`](Self::wait): 1024 unless set.
    /// Each holds its request, body and all. Beyond that, a duplicate is told at once that one is in progress.
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.config.max_waiters = waiters;
        self
    }

    /// Sets how many requests whose client disconnected may be running at a time: 1024 unless set. While that many are
    /// running, keyed requests are answered 503 ([`RejectionKind::Overloaded`](crate::RejectionKind::Overloaded)) before
    /// they claim anything.
    ///
    /// A client that leaves gives back what a concurrency limit outside of the layer counts, and its handler runs on. With
    /// this bound, at most the outer limit and this many handlers of keyed requests run at a time. A limit inside the
    /// layer bounds handlers by itself.
    pub fn max_detached(mut self, requests: usize) -> Self {
        self.config.max_detached = requests;
        self
    }

    /// The longest request body, in bytes; a longer one is answered 413. Without effect where nothing is compared
    /// ([`FingerprintMode::None`](crate::FingerprintMode::None)), since bodies are not read then.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.config.max_request_bytes = bytes;
        self
    }

    /// The longest response body that is stored, in bytes. A longer one reaches its client whole, and no retry: those
    /// are told that the request was processed.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.config.max_response_bytes = bytes;
        self
    }

    /// Sets which responses commit the rows that the handler wrote through `CoCommit`:
    /// [`Classifier::success_or_redirect`] unless set.
    ///
    /// The rows of every other response are rolled back. If the contract stores that response, it is stored alone. So a
    /// handler that writes and then answers 409 leaves no row, and its retries get the 409. A response that is not
    /// stored never commits. `CoCommit::keep_on_error` commits the rows of one request with whatever response is stored.
    ///
    /// The rule is the same for requests with and without a key. It reads the head of the response; a
    /// [`Disposition`](crate::Disposition) in the response's extensions decides about storing only.
    pub fn commits(mut self, classifier: Classifier) -> Self {
        self.config.commits = classifier;
        self
    }

    /// What becomes of a claim whose run ended without an outcome: in a crash, a panic, or an error of the service.
    pub fn on_orphan(mut self, policy: OnOrphan) -> Self {
        self.config.on_orphan = policy;
        self
    }

    /// What becomes of a request whose client went away.
    pub fn on_disconnect(mut self, policy: OnDisconnect) -> Self {
        self.config.on_disconnect = policy;
        self
    }

    /// What becomes of a request with a key while the store is not reached.
    pub fn on_store_failure(mut self, policy: OnStoreFailure) -> Self {
        self.config.on_store_failure = policy;
        self
    }
}

impl<St> Builder<St, Scoped> {
    /// The layer.
    pub fn build(self) -> IdempotencyLayer<St> {
        IdempotencyLayer { config: Arc::new(self.config) }
    }
}

impl<St, S> fmt::Debug for Builder<St, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}
