//! Webhook endpoints: `/v1/webhooks`, `/v1/webhooks/{id}` and the operations on one.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::changes::Changes;
use super::{Event, TEST, body};
use crate::api::{Api, Call};
use crate::body::Json;
use crate::envelope::{Context, Envelope, Resource};
use crate::errors::Failure;
use crate::user::User;
use crate::validation::{Entity, Validation};
use platform::utc::Utc;
use platform::webhooks::store::{deliveries, endpoints};
use platform::webhooks::{Endpoint, EndpointStatus};
use platform::{clock, encryption};

/// Lists the endpoints of the account.
#[utoipa::path(
    get, path = "/webhooks", operation_id = "listWebhooks", tag = "Webhooks",
    responses((status = 200, description = "All endpoints", body = Envelope<Vec<Entity<WebhookEndpoint>>>)),
)]
pub(crate) async fn list(Call { api, user, context }: Call) -> Response {
    let listed = async {
        let mut reader = api.database.read().await?;
        endpoints::list_of(reader.connection(), user.id()).await
    };
    match listed.await {
        Ok(endpoints) => {
            let resources: Vec<_> =
                endpoints.into_iter().map(|endpoint| to_resource(endpoint, None)).collect();
            context.ok(&resources)
        }
        Err(error) => context.fail(&error.into()),
    }
}

/// Creates an endpoint.
///
/// Only this response contains the secret. Deliveries are signed with it: `X-Webhook-Signature` is
/// `sha256=` and the HMAC-SHA256 of the body; `X-Webhook-Signature-Timestamped` is
/// `t={seconds},v1={HMAC of "{seconds}.{body}"}`, with the time of the attempt. Deliveries are made
/// at least once; `X-Veriko-Delivery-Id` is the same for every attempt.
#[utoipa::path(
    post, path = "/webhooks", operation_id = "createWebhook", tag = "Webhooks", request_body = CreateWebhook,
    responses(
        (status = 201, description = "The endpoint, with its secret", body = Envelope<Entity<WebhookEndpoint>>),
        (status = 400, description = "url_dns_failed url_ssrf_blocked"),
        (status = 422, description = "webhook_url_required webhook_url_invalid_type webhook_url_too_long \
            webhook_url_invalid_format webhook_url_not_https webhook_events_required webhook_events_too_many \
            webhook_event_invalid webhook_description_invalid_type webhook_description_too_long webhook_limit_reached"),
    ),
)]
pub(crate) async fn create(Call { api, user, context }: Call, Json(input): Json) -> Response {
    let created = async {
        let changes = Changes::of_new(&input, &api.webhooks.outbound)?;
        vet(&api, &changes).await?;
        let (id, now) = (Uuid::new_v4(), clock::timestamp());
        let secret = Secret::new(&api, id)?;
        let mut endpoint = Endpoint {
            id,
            account: user.id().to_owned(),
            url: String::new(),
            events: Vec::new(),
            description: None,
            status: EndpointStatus::Active,
            secret: secret.sealed,
            secret_hint: secret.hint,
            consecutive_failures: 0,
            last_delivery_at: None,
            created_at: now,
            updated_at: now,
        };
        changes.apply(&mut endpoint);
        let mut transaction = api.database.begin().await?;
        let limit = api.webhooks.max_endpoints;
        if !endpoints::insert(transaction.connection(), &endpoint, limit).await? {
            return Err(Failure::webhook_limit_reached(limit));
        }
        transaction.commit().await?;
        Ok((endpoint, secret.digits))
    };
    match created.await {
        Ok((endpoint, secret)) => context.created(&to_resource(endpoint, Some(secret))),
        Err(failure) => context.fail(&failure),
    }
}

/// Changes an endpoint.
///
/// Fields that are not in the body keep their values, and the secret never changes. If the endpoint
/// is no longer `active`, its pending deliveries are given up. Setting an `auto_disabled` endpoint
/// to `active` resets its count of failures.
#[utoipa::path(
    put, path = "/webhooks/{id}", operation_id = "updateWebhook", tag = "Webhooks", request_body = UpdateWebhook,
    responses(
        (status = 200, description = "The changed endpoint", body = Envelope<Entity<WebhookEndpoint>>),
        (status = 400, description = "url_dns_failed url_ssrf_blocked"),
        (status = 422, description = "no_valid_fields webhook_url_empty webhook_url_invalid_type webhook_url_too_long \
            webhook_url_invalid_format webhook_url_not_https webhook_events_required webhook_events_too_many \
            webhook_event_invalid webhook_description_invalid_type webhook_description_too_long webhook_status_invalid"),
    ),
)]
pub(crate) async fn update(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
    Json(input): Json,
) -> Response {
    let updated = async {
        let id = Validation::parse_id(&id)?;
        // Check the ownership first, so that a stranger learns nothing from other errors.
        find(&api, &user, id).await?;
        let changes = Changes::of_update(&input, &api.webhooks.outbound)?;
        vet(&api, &changes).await?;
        let mut transaction = api.database.begin().await?;
        let locked = endpoints::lock(transaction.connection(), user.id(), id).await?;
        let mut endpoint = locked.ok_or_else(Failure::not_found)?;
        changes.apply(&mut endpoint);
        endpoint.updated_at = clock::timestamp();
        endpoints::update(transaction.connection(), &endpoint).await?;
        if endpoint.status != EndpointStatus::Active {
            deliveries::give_up_all(transaction.connection(), &id.to_string()).await?;
        }
        transaction.commit().await?;
        Ok::<_, Failure>(endpoint)
    };
    match updated.await {
        Ok(endpoint) => context.ok(&to_resource(endpoint, None)),
        Err(failure) => context.fail(&failure),
    }
}

/// Deletes an endpoint and its delivery history.
#[utoipa::path(
    delete, path = "/webhooks/{id}", operation_id = "deleteWebhook", tag = "Webhooks",
    responses((status = 204, description = "The endpoint was deleted")),
)]
pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
) -> Response {
    let deleted = async {
        let id = Validation::parse_id(&id)?;
        let mut transaction = api.database.begin().await?;
        let locked = endpoints::lock(transaction.connection(), user.id(), id).await?;
        locked.ok_or_else(Failure::not_found)?;
        endpoints::delete(transaction.connection(), id).await?;
        Ok::<_, Failure>(transaction.commit().await?)
    };
    match deleted.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => context.fail(&failure),
    }
}

/// Sends a test delivery and returns its result.
///
/// Its event is `test`. Its result does not count for the endpoint.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", operation_id = "sendWebhookTest", tag = "Webhooks",
    responses((status = 200, description = "The result", body = Envelope<Resource<WebhookTestResult>>)),
)]
pub(crate) async fn test(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
) -> Response {
    #[derive(Serialize)]
    struct TestData {
        id: Uuid,
        r#type: &'static str,
        attributes: NoAttributes,
    }
    #[derive(Serialize)]
    struct NoAttributes {}

    let tested = async {
        let endpoint = find(&api, &user, Validation::parse_id(&id)?).await?;
        let data = TestData { id: endpoint.id, r#type: "webhook_test", attributes: NoAttributes {} };
        let body = body(TEST, clock::timestamp(), &data);
        Ok::<_, Failure>(api.webhooks.send_once(&endpoint, TEST, &body).await?)
    };
    match tested.await {
        Ok(receipt) => context.ok(&Resource {
            r#type: "webhook_test_result",
            attributes: WebhookTestResult {
                delivered: receipt.is_success(),
                http_status: receipt.status.unwrap_or_default(),
                response_time_ms: receipt.took_ms,
                error: receipt.error,
            },
        }),
        Err(failure) => context.fail(&failure),
    }
}

/// Creates a new secret for an endpoint.
///
/// Only this response contains it. It replaces the old secret at once: all later attempts are
/// signed with it.
#[utoipa::path(
    post, path = "/webhooks/{id}/regenerate-secret", operation_id = "regenerateWebhookSecret", tag = "Webhooks",
    responses((status = 200, description = "The endpoint, with its new secret", body = Envelope<Entity<WebhookEndpoint>>)),
)]
pub(crate) async fn regenerate_secret(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
) -> Response {
    let rotated = async {
        let id = Validation::parse_id(&id)?;
        let secret = Secret::new(&api, id)?;
        let mut transaction = api.database.begin().await?;
        let locked = endpoints::lock(transaction.connection(), user.id(), id).await?;
        let mut endpoint = locked.ok_or_else(Failure::not_found)?;
        (endpoint.secret, endpoint.secret_hint) = (secret.sealed, secret.hint);
        endpoint.updated_at = clock::timestamp();
        endpoints::update(transaction.connection(), &endpoint).await?;
        transaction.commit().await?;
        Ok::<_, Failure>((endpoint, secret.digits))
    };
    match rotated.await {
        Ok((endpoint, secret)) => context.ok(&to_resource(endpoint, Some(secret))),
        Err(failure) => context.fail(&failure),
    }
}

pub(super) async fn find(api: &Api, user: &User, id: Uuid) -> Result<Endpoint, Failure> {
    let mut reader = api.database.read().await?;
    endpoints::load(reader.connection(), user.id(), id).await?.ok_or_else(Failure::not_found)
}

/// Checks the address of a new URL. Resolving it takes time, so this is done before anything is
/// locked.
async fn vet(api: &Api, changes: &Changes) -> Result<(), Failure> {
    match &changes.url {
        Some(url) => api.webhooks.outbound.vet(url).await.map_err(Failure::of_address),
        None => Ok(()),
    }
}

/// A new secret: 64 hexadecimal digits, which are themselves the signing key.
struct Secret {
    digits: String,
    sealed: String,
    hint: String,
}

impl Secret {
    fn new(api: &Api, endpoint: Uuid) -> Result<Self, Failure> {
        let digits = hex::encode(encryption::random());
        let sealed = api.webhooks.seal(&endpoint.to_string(), &digits)?;
        let hint = format!("...{}", &digits[digits.len() - 4..]);
        Ok(Self { digits, sealed, hint })
    }
}

/// An endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookEndpoint {
    #[schema(example = "https://shop.example.com/hooks/veriko")]
    url: String,
    #[schema(example = json!(["validation.completed"]))]
    events: Vec<String>,
    #[schema(required, example = "Paid orders")]
    description: Option<String>,
    status: EndpointStatus,
    /// The number of failed attempts since the last successful one.
    #[schema(example = 0)]
    consecutive_failures: u32,
    /// When a delivery last succeeded.
    #[schema(required)]
    last_delivery_at: Option<Utc>,
    created_at: Utc,
    updated_at: Utc,
    /// Present only in the response that created it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        pattern = "^[0-9a-f]{64}$",
        example = "c0ffee11c0ffee11c0ffee11c0ffee11c0ffee11c0ffee11c0ffee11c0ffab12"
    )]
    secret: Option<String>,
    /// The last four digits of the secret. Absent if the secret itself is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "...ab12")]
    secret_hint: Option<String>,
}

fn to_resource(endpoint: Endpoint, secret: Option<String>) -> Entity<WebhookEndpoint> {
    let secret_hint = secret.is_none().then_some(endpoint.secret_hint);
    let attributes = WebhookEndpoint {
        url: endpoint.url,
        events: endpoint.events,
        description: endpoint.description,
        status: endpoint.status,
        consecutive_failures: endpoint.consecutive_failures,
        last_delivery_at: endpoint.last_delivery_at.map(Utc),
        created_at: Utc(endpoint.created_at),
        updated_at: Utc(endpoint.updated_at),
        secret,
        secret_hint,
    };
    Entity::of(endpoint.id, "webhook_endpoint", attributes)
}

/// The result of a test delivery.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookTestResult {
    /// Whether the receiver responded with a 2xx.
    #[schema(example = true)]
    delivered: bool,
    /// 0 if there was no response.
    #[schema(example = 200)]
    http_status: u16,
    #[schema(example = 143)]
    response_time_ms: u64,
    /// Why there was no response.
    #[schema(required, example = json!(null))]
    error: Option<String>,
}

/// An endpoint to create.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
pub(crate) struct CreateWebhook {
    /// An `https` URL with a public address.
    #[schema(max_length = 2048, example = "https://shop.example.com/hooks/veriko")]
    url: String,
    #[schema(min_items = 1, max_items = 10)]
    events: Vec<Event>,
    /// Your own description of the endpoint.
    #[schema(max_length = 255, example = "Paid orders")]
    description: Option<String>,
}

/// The fields of an endpoint to change. Fields that are left out keep their values.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
pub(crate) struct UpdateWebhook {
    /// An `https` URL with a public address.
    #[schema(nullable = false, max_length = 2048, example = "https://shop.example.com/hooks/veriko")]
    url: Option<String>,
    #[schema(nullable = false, min_items = 1, max_items = 10)]
    events: Option<Vec<Event>>,
    /// `null` removes the description.
    #[schema(max_length = 255, example = "Paid orders")]
    description: Option<String>,
    /// `active` or `disabled`.
    #[schema(nullable = false, pattern = "^(active|disabled)$", example = "active")]
    status: Option<String>,
}
