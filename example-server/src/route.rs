//! One row of an API: an operation, its description, and what stands before it.

use axum::Router;
use axum::routing::MethodRouter;
use utoipa::openapi::path::Paths;
use utoipa_axum::router::UtoipaMethodRouter;

use crate::accounts::Permission;

/// One operation. Until it is given its state, it can be described and not be served.
#[derive(Debug)]
pub(crate) struct Route<S = ()> {
    /// Below the API's own prefix.
    pub(crate) path: String,
    pub(crate) handler: MethodRouter<S>,
    pub(crate) described: Described,
    /// Who may call.
    pub(crate) access: Access,
    /// Whether an `Idempotency-Key` means something here. It does on routes that change something and on no other.
    pub(crate) idempotent: bool,
}

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody, without a key.
    Public,
    /// Whoever has a key.
    Key,
    /// Whoever has a key with this permission.
    Permission(Permission),
}

/// What the `OpenAPI` document says of an operation, apart from what its [`Route`] implies: [`openapi`](crate::openapi)
/// says how that is written.
pub(crate) struct Described {
    pub(crate) paths: Paths,
    pub(crate) schemas: Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// The operation of a handler, as [`utoipa_axum::routes!`] reads it off its annotation.
    pub(crate) fn of(operation: UtoipaMethodRouter<S>, access: Access, idempotent: bool) -> Self {
        let (schemas, paths, handler) = operation;
        let path = paths.paths.keys().next().cloned().expect("an operation has a path");
        let described = Described { paths, schemas };
        Self { path, handler, described, access, idempotent }
    }

    /// The same, ready to be served.
    pub(crate) fn with_state(self, state: &S) -> Route {
        let Self { path, handler, described, access, idempotent } = self;
        Route { path, handler: handler.with_state(state.clone()), described, access, idempotent }
    }
}

impl Route {
    /// Adds it to a router.
    pub(crate) fn add_to(self, router: Router) -> Router {
        router.route(&self.path, self.handler)
    }
}

impl std::fmt::Debug for Described {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Described").finish_non_exhaustive()
    }
}
