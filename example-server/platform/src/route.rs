//! One row of an API: an operation, its description, and what stands before it.

use axum::Router;
use axum::routing::MethodRouter;
use utoipa::openapi::path::Paths;
use utoipa_axum::router::UtoipaMethodRouter;

use crate::account::Permission;

/// One operation. Until it is given its state, it can be described and not be served.
#[derive(Debug)]
pub struct Route<S = ()> {
    /// Below the API's own prefix.
    pub path: String,
    pub handler: MethodRouter<S>,
    pub described: Described,
    /// Who may call.
    pub access: Access,
    /// Whether an `Idempotency-Key` means something here. It does on routes that change something and on no other.
    pub idempotent: bool,
    /// Whether the handler touches nothing but the database: the key is then claimed in the handler's transaction.
    pub in_transaction: bool,
    /// How much of a body is read.
    pub body: BodySize,
}

/// How large the bodies of an operation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodySize {
    /// As the configuration bounds them.
    Usual,
    /// A picture in base64, and what is said beside it. So few are held at a time as the configuration says.
    Large,
    /// Up to so many bytes, which are looked at as they come and not held.
    Streamed(usize),
}

impl BodySize {
    /// Bytes of a [`Large`](Self::Large) one: a picture of 12 MB, which base64 makes a third longer, and the usual bound.
    pub const LARGE: usize = 16 * 1024 * 1024 + 256 * 1024;
}

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a key.
    Public,
    /// Whoever has a key.
    Key,
    /// Whoever has a key with this permission.
    Permission(Permission),
}

/// What the `OpenAPI` document says of an operation, apart from what its [`Route`] implies: [`openapi`](crate::openapi)
/// says how that is written.
pub struct Described {
    pub paths: Paths,
    pub schemas: Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// The operation of a handler, as [`utoipa_axum::routes!`] reads it off its annotation.
    pub fn of(operation: UtoipaMethodRouter<S>, access: Access, idempotent: bool) -> Self {
        let (schemas, paths, handler) = operation;
        let path = paths.paths.keys().next().cloned().expect("an operation has a path");
        let described = Described { paths, schemas };
        Self { path, handler, described, access, idempotent, in_transaction: false, body: BodySize::Usual }
    }

    /// Claims the key in the handler's transaction. The handler reads and writes in that transaction alone, and calls nobody.
    #[must_use]
    pub fn in_transaction(self) -> Self {
        Self { in_transaction: true, ..self }
    }

    /// The same with large bodies.
    #[must_use]
    pub fn with_large_bodies(self) -> Self {
        Self { body: BodySize::Large, ..self }
    }

    /// The same with bodies of up to so many bytes that it does not hold.
    #[must_use]
    pub fn streaming(self, max_bytes: usize) -> Self {
        Self { body: BodySize::Streamed(max_bytes), ..self }
    }

    /// The same, ready to be served.
    pub fn with_state(self, state: &S) -> Route {
        let Self { path, handler, described, access, idempotent, in_transaction, body } = self;
        let handler = handler.with_state(state.clone());
        Route { path, handler, described, access, idempotent, in_transaction, body }
    }
}

impl Route {
    /// Adds it to a router.
    pub fn add_to(self, router: Router) -> Router {
        router.route(&self.path, self.handler)
    }
}

impl std::fmt::Debug for Described {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Described").finish_non_exhaustive()
    }
}
