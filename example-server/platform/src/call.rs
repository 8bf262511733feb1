//! The arguments that every handler of an API takes.

use std::sync::Arc;

use axum::Extension;
use axum::RequestPartsExt as _;
use axum::extract::FromRequestParts;
use axum::extract::rejection::ExtensionRejection;
use http::request::Parts;

/// A request to the API `A`: its caller, and the context that renders its response.
///
/// The middleware stack of an API puts the caller and the context into the request's extensions, so
/// extraction fails only if a route is not behind that stack.
#[derive(Debug)]
pub struct Call<A, U, C> {
    pub api: Arc<A>,
    pub user: U,
    pub context: C,
}

impl<A, U, C> FromRequestParts<Arc<A>> for Call<A, U, C>
where
    A: Send + Sync,
    U: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    type Rejection = ExtensionRejection;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<A>) -> Result<Self, ExtensionRejection> {
        let Extension(user) = parts.extract().await?;
        let Extension(context) = parts.extract().await?;
        Ok(Self { api: Arc::clone(api), user, context })
    }
}
