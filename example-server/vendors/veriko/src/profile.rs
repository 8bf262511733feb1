//! `GET /v1/users/me`: the caller's account.

use axum::Extension;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::envelope::{Context, Envelope};
use super::user::{User, Veriko};
use platform::utc::Utc;
use platform::vendor::Vendor;

/// Reads the account of the key.
///
/// The server has no data on persons, sessions or invoices, so it returns none.
#[utoipa::path(
    get, path = "/users/me", operation_id = "myProfile", tag = "Users",
    responses((status = 200, description = "The account of the key", body = Envelope<Profile>))
)]
pub(super) async fn read(
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
) -> Response {
    let attributes = Attributes {
        id: user.id(),
        name: user.id(),
        status: "active",
        language: None,
        created_at: user.created_at().map(Utc),
        api_key: KeyHint { prefix: Veriko::KEY_FORMAT.prefixes[0].0, last_4: None },
        subscription: Subscription {
            plan_slug: user.plan().as_str(),
            plan_name: user.plan().name(),
            status: "active",
            current_period_end: None,
            cancel_at: None,
            billing_interval: None,
        },
        permissions: user.permissions(),
    };
    context.ok(&Profile { r#type: "user", id: user.id(), attributes })
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Profile<'a> {
    #[schema(example = "user")]
    r#type: &'static str,
    #[schema(example = "demo-pro")]
    id: &'a str,
    attributes: Attributes<'a>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProfileAttributes)]
struct Attributes<'a> {
    #[schema(example = "demo-pro")]
    id: &'a str,
    /// The name of the account, which is its id.
    #[schema(example = "demo-pro")]
    name: &'a str,
    #[schema(example = "active")]
    status: &'static str,
    /// `null`: an account has no language. Errors follow `Accept-Language`.
    #[schema(required, example = json!(null))]
    language: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    created_at: Option<Utc>,
    api_key: KeyHint,
    subscription: Subscription,
    /// The permissions of the key.
    #[schema(example = json!(["validations:create", "validations:update"]))]
    permissions: Vec<&'static str>,
}

#[derive(Debug, Serialize, ToSchema)]
struct KeyHint {
    #[schema(example = "mxcep_")]
    prefix: &'static str,
    /// `null`: the server stores only the hash of a key.
    #[schema(required, example = json!(null))]
    last_4: Option<&'static str>,
}

/// The account's plan. There is no billing, so a period has no end.
#[derive(Debug, Serialize, ToSchema)]
struct Subscription {
    #[schema(example = "pro")]
    plan_slug: &'static str,
    #[schema(example = "Pro")]
    plan_name: &'static str,
    #[schema(example = "active")]
    status: &'static str,
    #[schema(required, example = json!(null))]
    current_period_end: Option<&'static str>,
    #[schema(required, example = json!(null))]
    cancel_at: Option<&'static str>,
    #[schema(required, example = json!(null))]
    billing_interval: Option<&'static str>,
}
