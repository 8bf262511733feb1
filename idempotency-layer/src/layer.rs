//! How the layer is configured.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use tokio_util::task::TaskTracker;
use tower_layer::Layer;

use crate::config::{Config, InTransaction, OnDisconnect, OnStoreFailure};
use crate::contract::{Classifier, Contract};
use crate::engine;
use crate::fingerprint::FingerprintMode;
use crate::orphan::OnOrphan;
use crate::scope::Scope;
use crate::service::IdempotencyService;
use crate::store::{ClaimsInTransaction, RecordId, Store};
use crate::wait::Waiters;

/// A [`Layer`] that makes a retried request happen once. Build it with
/// [`IdempotencyLayer::builder`].
///
/// It is cheap to clone. Clones share the store, the waiting requests and the requests without a
/// client.
pub struct IdempotencyLayer<St> {
    pub(crate) config: Arc<Config<St>>,
}

/// The state of a [`Builder`] without a scope: `build` is unavailable.
#[derive(Debug)]
pub struct Unscoped(());

/// The state of a [`Builder`] with a scope.
#[derive(Debug)]
pub struct Scoped(());

/// Builds an [`IdempotencyLayer`].
///
/// [`build`](Self::build) is available after [`scope`](Self::scope) or
/// [`single_tenant`](Self::single_tenant). This does not compile:
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
    /// Starts building a layer that keeps its records in `store`.
    ///
    /// Defaults: [`Contract::ietf`], a lease of 30 s, no waiting, at most 2 MiB of a request and 1
    /// MiB of a response.
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
                in_transaction: None,
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

    /// Waits until every request whose client disconnected has finished, and every pending claim
    /// has been given back.
    ///
    /// Call it after the server has taken its last request and before the program ends. Set a
    /// time-out, because the call does not return while claims cannot be given back to a store that
    /// is down.
    ///
    /// # Cancel safety
    ///
    /// If the call is dropped, it only stops waiting. It can be called again.
    pub async fn shutdown(&self) {
        let Config { detached, given_up, .. } = &*self.config;
        detached.close();
        detached.wait().await;
        // A request that was finishing may have given its claim up.
        given_up.close();
        given_up.wait().await;
    }

    /// Returns the record that a request with this head would claim. `None` if it has no valid key,
    /// or if the layer does not process it.
    ///
    /// With [`Inspect`](crate::Inspect), a middleware outside the layer can find out whether a
    /// request would run or be answered, before its body is read or anything is written. Such a
    /// middleware must see the request as the layer does: the same extensions, the same URI.
    pub fn record_of(&self, head: &Parts) -> Option<RecordId> {
        engine::record_of(&self.config, head)
    }

    /// Returns the number of running requests whose client disconnected, plus the number of claims
    /// that are being given back in the background.
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
    /// Sets the function that returns the principal that a key belongs to. It reads the head of the
    /// request, usually an extension that authentication has put there.
    ///
    /// If it returns `None`, a keyed request is answered 500 and nothing runs. So put
    /// authentication outside this layer, and let it refuse clients it does not know.
    pub fn scope(
        mut self,
        scope: impl Fn(&Parts) -> Option<Scope> + Send + Sync + 'static,
    ) -> Builder<St, Scoped> {
        self.config.scope = Box::new(scope);
        Builder { config: self.config, scoped: PhantomData }
    }

    /// Treats all clients as one: any client that sends a key gets the response stored under it.
    /// Use it only for a service with one client.
    pub fn single_tenant(self) -> Builder<St, Scoped> {
        self.scope(|_| Some(Scope::of("")))
    }
}

impl<St, S> Builder<St, S> {
    /// Sets what the API promises about its keys: [`Contract::ietf`] unless set.
    pub fn contract(mut self, contract: Contract) -> Self {
        self.config.contract = contract;
        self
    }

    /// Sets which requests the layer looks at, among those of the contract's methods: all of them
    /// unless set. On other requests the key means nothing, and their handlers are offered no
    /// transaction.
    pub fn when(mut self, when: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.config.when = Some(Box::new(when));
        self
    }

    /// Sets how long a claim holds after its process died: 30 s unless set, at least 10 ms.
    ///
    /// While a handler runs, the layer renews the lease every third of this time, counted from its
    /// call to the store. It repeats a failed renewal within a second.
    ///
    /// A retry after a crash waits for the rest of the lease, so a short lease recovers sooner. If
    /// the lease is too short, a busy runtime renews too late, loses the claim, and a handler may
    /// run twice. A handler that blocks its thread prevents the renewal: move such work to
    /// `spawn_blocking`.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.lease = lease.max(Duration::from_millis(10));
        self
    }

    /// Sets how long a request waits for the response of another one with the same key before it is
    /// answered 409. Zero, the default, means that it does not wait.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.config.wait = at_most;
        self
    }

    /// Sets how many requests may [`wait`](Self::wait) at a time: 1024 unless set. Each holds its
    /// request in memory. Beyond that, a duplicate is answered 409 at once.
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.config.max_waiters = waiters;
        self
    }

    /// Sets how many requests whose client disconnected may be running at a time: 1024 unless set.
    /// While that many are running, keyed requests are answered 503
    /// ([`RejectionKind::Overloaded`](crate::RejectionKind::Overloaded)) before they claim
    /// anything.
    ///
    /// A concurrency limit outside the layer no longer counts a request whose client disconnected,
    /// although its handler still runs. So the handlers of keyed requests that run at a time are at
    /// most that limit plus this bound. A limit inside the layer counts every handler.
    ///
    /// With [`claim_in_transaction`](Self::claim_in_transaction) no request is refused: a handler
    /// beyond this bound ends with its client, and its transaction is rolled back.
    pub fn max_detached(mut self, requests: usize) -> Self {
        self.config.max_detached = requests;
        self
    }

    /// Sets the longest request body in bytes: 2 MiB unless set. A longer one is answered 413. It
    /// has no effect with [`FingerprintMode::None`](crate::FingerprintMode::None), because the
    /// layer does not read bodies then.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.config.max_request_bytes = bytes;
        self
    }

    /// Sets the longest response body that is stored, in bytes: 1 MiB unless set. A longer one
    /// reaches its client complete, and retries are answered 409: the request was processed, and
    /// its response cannot be repeated.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.config.max_response_bytes = bytes;
        self
    }

    /// Sets which responses commit the rows that the handler wrote through `CoCommit`:
    /// [`Classifier::success_or_redirect`] unless set.
    ///
    /// The rows of every other response are rolled back. If the contract stores that response, it
    /// is stored alone. So a handler that writes and then answers 409 leaves no row, and its
    /// retries get the 409. A response that is not stored never commits. `CoCommit::keep_on_error`
    /// commits the rows of one request with any response that is stored.
    ///
    /// The rule is the same for requests with and without a key. It reads the head of the response.
    /// A [`Disposition`](crate::Disposition) among the extensions of the response decides about
    /// storing only.
    ///
    /// ```
    /// use idempotency_layer::{Classifier, IdempotencyLayer, MemoryStore};
    ///
    /// let layer = IdempotencyLayer::builder(MemoryStore::default())
    ///     .single_tenant()
    ///     .commits(Classifier::success()) // not with a redirect
    ///     .build();
    /// ```
    pub fn commits(mut self, classifier: Classifier) -> Self {
        self.config.commits = classifier;
        self
    }

    /// Makes the transaction the claim: one commit in all, no lease, and nothing left by a run that
    /// dies.
    ///
    /// The layer begins the transaction before it calls the handler and takes the record's lock in
    /// it. After the handler, it writes the completed record and commits. The method exists for
    /// stores that implement [`ClaimsInTransaction`](crate::ClaimsInTransaction): `PostgresStore`,
    /// `SqliteStore`, and `Layered` around them.
    ///
    /// | | leased (default) | in the transaction |
    /// |---|---|---|
    /// | commits | 2 | 1 |
    /// | round trips beside the handler's | 2 | 2 |
    /// | connection held | from the handler's `begin` | from before the handler to the answer |
    /// | crash | the claim holds until its lease ends | nothing is left; a retry runs at once |
    /// | 5xx | the claim is released | nothing is left; a retry runs at once |
    /// | panic | [`on_orphan`](Self::on_orphan) decides | nothing is left; a retry runs at once |
    /// | [`Idempotency::attempt`](crate::Idempotency::attempt) | counts the claims of the record | 1, except after a leased claim |
    /// | [`checkpoint`](crate::Idempotency::checkpoint) | kept | an error: it could not outlive the run |
    /// | two handlers of one record at a time | after a lost lease only | never, except beside a leased run that lost its lease |
    /// | two commits of one record | never | never |
    ///
    /// - If a run dies after it has called another service, the next run does **not** learn of it.
    ///   Give such calls [derived](crate::Idempotency::derive) keys, or use leased claims.
    /// - Each run holds a connection, so at most three quarters of the pool's connections run
    ///   handlers at a time. Other requests wait for the pool's acquire time-out, and are then
    ///   answered 503.
    /// - Both ways to claim may meet on one record, as in a rolling deployment.
    /// - PostgreSQL: the isolation level is READ COMMITTED. After `kill -9` a retry runs at once,
    ///   or within about a second if the server was inside a statement.
    /// - SQLite: every other writer of the file waits while the handler runs.
    ///
    /// A store that shares no database with handlers does not compile:
    ///
    /// ```compile_fail,E0277
    /// use idempotency_layer::{IdempotencyLayer, MemoryStore};
    ///
    /// let layer =
    ///     IdempotencyLayer::builder(MemoryStore::default()).single_tenant().claim_in_transaction().build();
    /// ```
    ///
    /// Neither does a store whose type is erased:
    ///
    /// ```compile_fail,E0277
    /// use idempotency_layer::{AnyStore, IdempotencyLayer, MemoryStore};
    ///
    /// let store = AnyStore::new(MemoryStore::default());
    /// let layer = IdempotencyLayer::builder(store).single_tenant().claim_in_transaction().build();
    /// ```
    pub fn claim_in_transaction(mut self) -> Self
    where
        St: ClaimsInTransaction,
    {
        self.config.in_transaction = Some(InTransaction {
            claim: |store, request, time| Box::pin(St::claim_in_transaction(store, request, time)),
            time: St::TRANSACTION_TIME,
        });
        self
    }

    /// Sets how long a [claim in the transaction](Self::claim_in_transaction) may take, from its
    /// beginning to the captured response: 30 s on PostgreSQL and 5 s on SQLite unless set, at
    /// least 10 ms.
    ///
    /// After that, the layer drops the handler, rolls back, and answers 503. Call it after
    /// [`claim_in_transaction`](Self::claim_in_transaction); it has no effect before.
    pub fn transaction_time(mut self, time: Duration) -> Self {
        if let Some(in_transaction) = &mut self.config.in_transaction {
            in_transaction.time = time.max(Duration::from_millis(10));
        }
        self
    }

    /// Sets what to do with a claim whose run ended without an outcome, by a crash, a panic, or an
    /// error of the service: [`OnOrphan::Rerun`] unless set.
    pub fn on_orphan(mut self, policy: OnOrphan) -> Self {
        self.config.on_orphan = policy;
        self
    }

    /// Sets what to do when the client disconnects: [`OnDisconnect::Finish`] unless set.
    pub fn on_disconnect(mut self, policy: OnDisconnect) -> Self {
        self.config.on_disconnect = policy;
        self
    }

    /// Sets what to do with a keyed request while the store is not reached:
    /// [`OnStoreFailure::Refuse`] unless set.
    pub fn on_store_failure(mut self, policy: OnStoreFailure) -> Self {
        self.config.on_store_failure = policy;
        self
    }
}

impl<St> Builder<St, Scoped> {
    /// Builds the layer.
    ///
    /// # Panics
    ///
    /// With [`claim_in_transaction`](Self::claim_in_transaction), if the contract
    ///
    /// - compares nothing ([`FingerprintMode::None`](crate::FingerprintMode::None)), because the
    ///   layer would begin the transaction before it has read the body, and a slow upload would
    ///   hold the transaction, or
    /// - has a [`ttl`](Contract::ttl) that is not longer than the
    ///   [`transaction_time`](Self::transaction_time).
    pub fn build(self) -> IdempotencyLayer<St> {
        if let Some(in_transaction) = &self.config.in_transaction {
            let contract = &self.config.contract;
            assert!(
                contract.fingerprint != FingerprintMode::None,
                "claim_in_transaction needs a contract that compares bodies, such as FingerprintMode::Raw: with \
                 FingerprintMode::None a slow upload would hold the transaction"
            );
            assert!(
                contract.ttl > in_transaction.time,
                "claim_in_transaction needs a contract whose ttl is longer than the transaction_time"
            );
        }
        IdempotencyLayer { config: Arc::new(self.config) }
    }
}

impl<St, S> fmt::Debug for Builder<St, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}
