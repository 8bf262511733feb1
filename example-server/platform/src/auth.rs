//! Authentication and permissions.
//!
//! A refusal here is a response without a body. The API's envelope adds the API's error body.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

use crate::account::Permission;
use crate::accounts::Accounts;
use crate::api_key::{ApiKey, KeyFormat};
use crate::vendor::{Caller, Vendor};

/// Middleware that authenticates the caller by API key and adds it to the request's extensions.
/// Responds with the same 401 to a missing, a malformed and an unknown key.
pub async fn authenticate<V: Vendor>(
    State(accounts): State<Arc<Accounts<V>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(key) = bearer(&V::KEY_FORMAT, request.headers()) else {
        return accounts.refuse(StatusCode::UNAUTHORIZED);
    };
    match accounts.find(&key).await {
        Ok(Some(user)) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Ok(None) => accounts.refuse(StatusCode::UNAUTHORIZED),
        Err(error) => {
            tracing::error!(%error, "the database failed");
            accounts.refuse((StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]))
        }
    }
}

/// Middleware that responds with 403 unless the caller has the permission.
pub async fn require<U: Caller>(
    State(permission): State<Permission>,
    Extension(user): Extension<U>,
    request: Request,
    next: Next,
) -> Response {
    if user.may(permission) { next.run(request).await } else { StatusCode::FORBIDDEN.into_response() }
}

/// Returns whether a request has a key in the format of this API. The key need not exist.
pub fn has_key<V: Vendor>(headers: &HeaderMap) -> bool {
    bearer(&V::KEY_FORMAT, headers).is_some()
}

/// Returns the key of `Authorization: Bearer …`. With several such headers, there is none: to pick
/// one would be a guess.
fn bearer(format: &KeyFormat, headers: &HeaderMap) -> Option<ApiKey> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| ApiKey::parse(format, key.trim_matches(' ')))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Acme;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_bearer_key_is_read_whatever_the_case_of_the_scheme() {
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
            assert!(
                bearer(&Acme::KEY_FORMAT, &headers(&[&format!("{scheme} acme_{}", "a".repeat(64))]))
                    .is_some(),
                "{scheme}"
            );
        }
    }

    #[test]
    fn anything_else_is_no_key() {
        let key = format!("acme_{}", "a".repeat(64));
        assert!(bearer(&Acme::KEY_FORMAT, &HeaderMap::new()).is_none());
        for value in ["", "Bearer", "Bearer ", &key, &format!("Basic {key}"), &format!("Bearer {key} {key}")]
        {
            assert!(bearer(&Acme::KEY_FORMAT, &headers(&[value])).is_none(), "{value}");
        }
        let sent_once = format!("Bearer {key}");
        assert!(bearer(&Acme::KEY_FORMAT, &headers(&[&sent_once, &sent_once])).is_none());
    }
}
