//! `POST /kyb/verify`.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{Call, respond, timed};
use super::country::Country;
use super::engines::kyb::{Case, Findings, KybCheck};
use super::errors::Failure;
use super::ids;
use super::reading::{Object, Raw, TEXT};
use platform::clock;
use platform::utc::Utc;

/// Verifies a business.
#[utoipa::path(
    post, path = "/kyb/verify", operation_id = "verifyBusiness", tag = "KYB", request_body = KybRequest,
    responses(
        (status = 200, description = "The result of the verification", body = KybVerification),
        (status = 400, description = "missing_parameter invalid_parameter unsupported_country"),
    ),
)]
pub(super) async fn verify(Call { api, user, context }: Call, Raw(body): Raw) -> Response {
    let done = async {
        let case = read(&body)?;
        let (findings, _) = timed("kyb", api.engines.kyb.judge(user.environment(), &case)).await?;
        let created_at = Utc(clock::timestamp());
        let (id, object) = (ids::new("kyb"), "kyb.verification");
        Ok((StatusCode::OK, KybVerification { id, object, findings, created_at }))
    };
    respond(&context, done.await)
}

/// Parses the request. By default, every check is made.
fn read(body: &[u8]) -> Result<Case, Failure> {
    let body = Object::body(body)?;
    let business = body.required("business")?.object()?;
    Ok(Case {
        legal_name: business.required("legal_name")?.text(TEXT)?,
        registration_number: business.required("registration_number")?.text(TEXT)?,
        country: business.required("country")?.country()?,
        checks: match body.optional("checks") {
            Some(checks) => checks.some_of(KybCheck::ALL)?,
            None => KybCheck::ALL.to_vec(),
        },
    })
}

/// The response: the judgement and its identity.
#[derive(Serialize, ToSchema)]
struct KybVerification {
    #[schema(example = "kyb_0199f3a1b2c37d4e8f5a6b7c8d9e0f1a")]
    id: String,
    #[schema(example = "kyb.verification")]
    object: &'static str,
    #[serde(flatten)]
    findings: Findings,
    created_at: Utc,
}

/// The business to verify.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct KybRequest {
    business: BusinessRequest,
    /// The default is all checks.
    #[schema(min_items = 1)]
    checks: Option<Vec<KybCheck>>,
}

#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct BusinessRequest {
    #[schema(min_length = 1, max_length = 200, example = "Exemple SA")]
    legal_name: String,
    #[schema(min_length = 1, max_length = 200, example = "RC-1001")]
    registration_number: String,
    country: Country,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_checks_all_are_made() {
        let business = r#""business":{"legal_name":"B","registration_number":"R","country":"MA"}"#;
        let checks = |more: &str| read(format!("{{{business}{more}}}").as_bytes()).unwrap().checks;
        assert_eq!(checks(""), KybCheck::ALL);
        assert_eq!(checks(r#","checks":["registry"]"#), [KybCheck::Registry]);
    }
}
