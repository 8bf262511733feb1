//! The delivery history: `GET /v1/webhooks/deliveries` and `GET /v1/webhooks/{id}/deliveries`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::endpoints::find;
use super::filter::{DeliveryFilter, PageParameters, Parameters};
use crate::api::{Api, Call};
use crate::envelope::{Context, Envelope};
use crate::errors::Failure;
use crate::query::Pagination;
use crate::user::User;
use crate::validation::Validation;
use crate::validations::Paginated;
use platform::utc::Utc;
use platform::webhooks::store::deliveries;
use platform::webhooks::{Delivery, DeliveryStatus};

/// Lists the deliveries to all endpoints, latest first.
#[utoipa::path(
    get, path = "/webhooks/deliveries", operation_id = "listAllDeliveries", tag = "Webhooks", params(Parameters),
    responses(
        (status = 200, description = "A page of deliveries", body = Envelope<Vec<WebhookDelivery>, Paginated>),
        (status = 422, description = "invalid_filter"),
    ),
)]
pub(crate) async fn all(Call { api, user, context }: Call, RawQuery(query): RawQuery) -> Response {
    let page = async {
        let filter = DeliveryFilter::parse(query.as_deref().unwrap_or_default())?;
        page(&api, &user, &filter).await
    };
    answer(&context, page.await, true)
}

/// Lists the deliveries to one endpoint, latest first.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", operation_id = "listWebhookDeliveries", tag = "Webhooks",
    params(PageParameters),
    responses(
        (status = 200, description = "A page of deliveries", body = Envelope<Vec<WebhookDelivery>, Paginated>),
        (status = 422, description = "invalid_filter"),
    ),
)]
pub(crate) async fn of_one(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    RawQuery(query): RawQuery,
) -> Response {
    let page = async {
        let endpoint = find(&api, &user, Validation::parse_id(&id)?).await?;
        let filter = DeliveryFilter::of_endpoint(endpoint.id, query.as_deref().unwrap_or_default())?;
        page(&api, &user, &filter).await
    };
    answer(&context, page.await, false)
}

async fn page(
    api: &Api,
    user: &User,
    filter: &DeliveryFilter,
) -> Result<(Vec<Delivery>, Pagination), Failure> {
    let mut reader = api.database.read().await?;
    let part = (filter.page.limit(), filter.page.offset());
    let (deliveries, total) = deliveries::page(reader.connection(), user.id(), &filter.wanted, part).await?;
    Ok((deliveries, filter.page.pagination(total)))
}

fn answer(context: &Context, page: Result<(Vec<Delivery>, Pagination), Failure>, with_url: bool) -> Response {
    match page {
        Ok((deliveries, pagination)) => {
            let items: Vec<_> =
                deliveries.into_iter().map(|delivery| WebhookDelivery::of(delivery, with_url)).collect();
            context.ok_with(&items, &Paginated { pagination })
        }
        Err(failure) => context.fail(&failure),
    }
}

/// A delivery.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookDelivery {
    /// The same as `X-Veriko-Delivery-Id`, and the same for every attempt.
    #[schema(pattern = "^[0-9]+$", example = "3641042953469132800")]
    id: String,
    #[schema(example = "webhook_delivery")]
    r#type: &'static str,
    attributes: WebhookDeliveryAttributes,
}

#[derive(Serialize, ToSchema)]
struct WebhookDeliveryAttributes {
    #[schema(format = Uuid, example = "018f3c2e-7b1a-4c3d-9e4f-5a6b7c8d9e0f")]
    endpoint_id: String,
    /// Present in the list of all endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "https://shop.example.com/hooks/veriko")]
    endpoint_url: Option<String>,
    #[schema(example = "validation.completed")]
    event_type: String,
    #[schema(required, format = Uuid, example = "018f3c2e-7b1a-7c3d-9e4f-5a6b7c8d9e0f")]
    validation_id: Option<String>,
    /// `null` if there was no response, or no attempt yet.
    #[schema(required, example = 200)]
    response_status: Option<u16>,
    /// The first 500 characters of the response body.
    #[schema(required, example = "ok")]
    response_body: Option<String>,
    #[schema(required, example = 143)]
    response_time_ms: Option<u64>,
    /// The number of the last attempt.
    #[schema(minimum = 1, example = 1)]
    attempt: u32,
    status: DeliveryStatus,
    #[schema(required)]
    next_retry_at: Option<Utc>,
    /// Why there was no response.
    #[schema(required, example = json!(null))]
    error_message: Option<String>,
    created_at: Utc,
}

impl WebhookDelivery {
    fn of(delivery: Delivery, with_url: bool) -> Self {
        let attributes = WebhookDeliveryAttributes {
            endpoint_id: delivery.endpoint,
            endpoint_url: with_url.then_some(delivery.endpoint_url),
            event_type: delivery.event,
            validation_id: delivery.subject,
            response_status: delivery.response_status,
            response_body: delivery.response_body,
            response_time_ms: delivery.response_time_ms,
            attempt: delivery.attempt,
            status: delivery.status,
            next_retry_at: delivery.next_retry_at.map(Utc),
            error_message: delivery.error_message,
            created_at: Utc(delivery.created_at),
        };
        Self { id: delivery.id.to_string(), r#type: "webhook_delivery", attributes }
    }
}
