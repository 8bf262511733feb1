//! What is read of validations: `GET /v1/validations`, `…/{id}` and `…/{id}/retry-attempts`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::api::Api;
use super::envelope::Context;
use super::errors::Failure;
use super::filter::{Filter, Pagination};
use super::store::{attempts, validations};
use super::validation::{Attempt, Validation};
use crate::accounts::User;
use crate::db::Reader;

/// One of them, or 304 to who has it as it is.
#[utoipa::path(get, path = "/validations/{id}", operation_id = "getValidation", tag = "Validations")]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    headers: HeaderMap,
) -> Response {
    #[derive(Serialize)]
    struct More {
        #[serde(skip_serializing_if = "Option::is_none")]
        next_poll_after_seconds: Option<u32>,
    }
    let validation = match find(&api, &user, &id).await {
        Ok((validation, _)) => validation,
        Err(failure) => return context.fail(&failure),
    };
    let etag = validation.etag();
    let next_poll_after_seconds = validation.next_poll_after_seconds();
    let mut response = if etag.none_match_fails(&headers) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        context.ok_with(&validation.resource(), &More { next_poll_after_seconds })
    };
    response.headers_mut().insert(header::ETAG, HeaderValue::from(etag));
    if let Some(seconds) = next_poll_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A page of those that the filter lets through, the latest first.
#[utoipa::path(get, path = "/validations", operation_id = "listValidations", tag = "Validations")]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    RawQuery(query): RawQuery,
) -> Response {
    #[derive(Serialize)]
    struct More {
        pagination: Pagination,
    }
    let page = async {
        let filter = Filter::parse(query.as_deref().unwrap_or_default())?;
        let mut reader = api.database.read().await?;
        let (validations, total) = validations::list(reader.connection(), user.id(), &filter).await?;
        Ok((validations, filter.page.pagination(total)))
    };
    match page.await {
        Ok((validations, pagination)) => {
            let items: Vec<_> = validations.iter().map(Validation::item).collect();
            context.ok_with(&items, &More { pagination })
        }
        Err(failure) => context.fail(&failure),
    }
}

/// The retries that were made of one, the first first.
#[utoipa::path(
    get,
    path = "/validations/{id}/retry-attempts",
    operation_id = "listValidationRetryAttempts",
    tag = "Validations"
)]
pub(super) async fn retry_attempts(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
) -> Response {
    let attempts = async {
        let (validation, mut reader) = find(&api, &user, &id).await?;
        Ok::<Vec<Attempt>, Failure>(attempts::of(reader.connection(), validation.id).await?)
    };
    match attempts.await {
        Ok(attempts) => context.ok(&attempts),
        Err(failure) => context.fail(&failure),
    }
}

async fn find(api: &Api, user: &User, id: &str) -> Result<(Validation, Reader), Failure> {
    let id = Validation::parse_id(id)?;
    let mut reader = api.database.read().await?;
    let validation = validations::load(reader.connection(), Some(user.id()), id).await?;
    Ok((validation.ok_or_else(Failure::not_found)?, reader))
}
