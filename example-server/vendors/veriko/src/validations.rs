//! Reading validations: `GET /v1/validations`, `…/{id}` and `…/{id}/retry-attempts`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{Api, Call};
use super::envelope::{Context, Envelope};
use super::errors::Failure;
use super::filter::{Filter, Parameters};
use super::query::Pagination;
use super::store::{attempts, validations};
use super::user::User;
use super::validation::{
    Attempt, Entity, Item, LinkedEntity, RetryAttempt, Validation, ValidationAttributes,
};
use platform::db::Reader;

/// Reads one validation.
///
/// While its status is `queued` or `processing`, `Retry-After` and `meta.next_poll_after_seconds`
/// say when to poll again. If `If-None-Match` has the `ETag` of an earlier response and the
/// validation has not changed, the response is 304 without a body.
#[utoipa::path(
    get, path = "/validations/{id}", operation_id = "getValidation", tag = "Validations",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier response")),
    responses(
        (status = 200, description = "The validation", body = Envelope<LinkedEntity<ValidationAttributes>, Poll>,
         headers(("ETag" = String, description = "Changes with the validation: `W/\"{version}-{status}\"`"),
                 ("Retry-After" = Option<u32>, description = "While the validation is not finished: when to poll again, in seconds"))),
        (status = 304, description = "The validation has not changed", headers(("ETag" = String, description = "The tag that was sent"))),
    ),
)]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    headers: HeaderMap,
) -> Response {
    let validation = match find(&api, &user, &id).await {
        Ok((validation, _)) => validation,
        Err(failure) => return context.fail(&failure),
    };
    let etag = validation.etag();
    let next_poll_after_seconds = validation.next_poll_after_seconds();
    let mut response = if etag.none_match_fails(&headers) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        context.ok_with(&validation.resource(), &Poll { next_poll_after_seconds })
    };
    response.headers_mut().insert(header::ETAG, HeaderValue::from(etag));
    if let Some(seconds) = next_poll_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Lists validations, latest first.
#[utoipa::path(
    get, path = "/validations", operation_id = "listValidations", tag = "Validations", params(Parameters),
    responses(
        (status = 200, description = "A page of validations", body = Envelope<Vec<Entity<Item>>, Paginated>),
        (status = 422, description = "invalid_filter"),
    ),
)]
pub(super) async fn list(Call { api, user, context }: Call, RawQuery(query): RawQuery) -> Response {
    let page = async {
        let filter = Filter::parse(query.as_deref().unwrap_or_default())?;
        let mut reader = api.database.read().await?;
        let (validations, total) = validations::list(reader.connection(), user.id(), &filter).await?;
        Ok((validations, filter.page.pagination(total)))
    };
    match page.await {
        Ok((validations, pagination)) => {
            let items: Vec<_> = validations.iter().map(Validation::item).collect();
            context.ok_with(&items, &Paginated { pagination })
        }
        Err(failure) => context.fail(&failure),
    }
}

/// Lists the retry attempts of one validation, earliest first.
#[utoipa::path(
    get, path = "/validations/{id}/retry-attempts", operation_id = "listValidationRetryAttempts", tag = "Validations",
    responses((status = 200, description = "All attempts", body = Envelope<Vec<RetryAttempt>>)),
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

/// When to poll again.
#[derive(Serialize, ToSchema)]
pub(super) struct Poll {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 2)]
    next_poll_after_seconds: Option<u32>,
}

impl Poll {
    pub(super) fn of(validation: &Validation) -> Self {
        Self { next_poll_after_seconds: validation.next_poll_after_seconds() }
    }
}

/// The position of the page.
#[derive(Serialize, ToSchema)]
pub(super) struct Paginated {
    pub(super) pagination: Pagination,
}

pub(super) async fn find(api: &Api, user: &User, id: &str) -> Result<(Validation, Reader), Failure> {
    let id = Validation::parse_id(id)?;
    let mut reader = api.database.read().await?;
    let validation = validations::load(reader.connection(), Some(user.id()), id).await?;
    Ok((validation.ok_or_else(Failure::not_found)?, reader))
}
