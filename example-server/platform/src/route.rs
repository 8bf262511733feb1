//! An operation of an API: its handler, its description and its access rules.

use axum::Router;
use axum::routing::MethodRouter;
use utoipa::openapi::path::Paths;
use utoipa_axum::router::UtoipaMethodRouter;

use crate::account::Permission;

/// One operation. It can be documented right away, and served once it has its state.
#[derive(Debug)]
pub struct Route<S = ()> {
    /// The path below the API's prefix.
    pub path: String,
    pub handler: MethodRouter<S>,
    pub described: Described,
    /// Who may call the operation.
    pub access: Access,
    /// Whether the operation accepts an `Idempotency-Key`. Only operations that change something
    /// do.
    pub idempotent: bool,
    /// Whether the handler uses the database only. If so, the key is claimed in the handler's
    /// transaction.
    pub in_transaction: bool,
    /// The limit of the request body.
    pub body: BodySize,
}

/// The limit of an operation's request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodySize {
    /// The configured limit, `max_body_bytes`.
    Usual,
    /// A picture in base64 and some metadata, up to [`LARGE`](Self::LARGE) bytes. The configuration
    /// limits how many are in memory at a time.
    Large,
    /// A body of up to this many bytes, which is processed as a stream and not kept in memory.
    Streamed(usize),
}

impl BodySize {
    /// The limit of a [`Large`](Self::Large) body, in bytes: a picture of 12 MB, which base64 makes
    /// a third longer, and 256 KiB for the other fields.
    pub const LARGE: usize = 16 * 1024 * 1024 + 256 * 1024;
}

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone, without a key.
    Public,
    /// Everyone with a key.
    Key,
    /// Everyone with a key that has this permission.
    Permission(Permission),
}

/// The `OpenAPI` description of an operation, without what its [`Route`] implies.
/// [`openapi`](crate::openapi) describes how to write it.
pub struct Described {
    pub paths: Paths,
    pub schemas: Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// Creates the operation of a handler from the output of [`utoipa_axum::routes!`].
    pub fn of(operation: UtoipaMethodRouter<S>, access: Access, idempotent: bool) -> Self {
        let (schemas, paths, handler) = operation;
        let path = paths.paths.keys().next().cloned().expect("an operation has a path");
        let described = Described { paths, schemas };
        Self { path, handler, described, access, idempotent, in_transaction: false, body: BodySize::Usual }
    }

    /// Claims the idempotency key in the handler's transaction. The handler must read and write in
    /// that transaction only, and must not call other services.
    #[must_use]
    pub fn in_transaction(self) -> Self {
        Self { in_transaction: true, ..self }
    }

    /// Accepts [`Large`](BodySize::Large) bodies.
    #[must_use]
    pub fn with_large_bodies(self) -> Self {
        Self { body: BodySize::Large, ..self }
    }

    /// Accepts bodies of up to `max_bytes`, which the handler processes as a stream.
    #[must_use]
    pub fn streaming(self, max_bytes: usize) -> Self {
        Self { body: BodySize::Streamed(max_bytes), ..self }
    }

    /// Provides the state of the handler. The result can be served.
    pub fn with_state(self, state: &S) -> Route {
        let Self { path, handler, described, access, idempotent, in_transaction, body } = self;
        let handler = handler.with_state(state.clone());
        Route { path, handler, described, access, idempotent, in_transaction, body }
    }
}

impl Route {
    /// Adds the operation to a router.
    pub fn add_to(self, router: Router) -> Router {
        router.route(&self.path, self.handler)
    }
}

impl std::fmt::Debug for Described {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Described").finish_non_exhaustive()
    }
}
