//! `POST /watchlist/screen`.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{Call, respond, timed};
use super::engines::RiskLevel;
use super::engines::watchlist::{
    Case, Entity, EntityType, Fuzziness, Match, Screened, Screening, ScreeningStatus, WatchlistKind,
};
use super::errors::Failure;
use super::ids;
use super::reading::{Object, Raw, TEXT};

/// Screens a person or a business against watchlists.
#[utoipa::path(
    post, path = "/watchlist/screen", operation_id = "screenEntity", tag = "Watchlist", request_body = ScreenRequest,
    responses(
        (status = 200, description = "The matches on the lists", body = ScreenResult),
        (status = 400, description = "missing_parameter invalid_parameter unsupported_country"),
    ),
)]
pub(super) async fn screen(Call { api, user, context }: Call, Raw(body): Raw) -> Response {
    let done = async {
        let case = read(&body)?;
        let asking = api.engines.watchlist.judge(user.environment(), &case);
        let (Screening { status, matches, screened_against, risk_level }, processing_time_ms) =
            timed("watchlist", asking).await?;
        let result = ScreenResult {
            id: ids::new("scr"),
            object: "watchlist.screening",
            status,
            hits: matches.len(),
            entity: case.entity,
            matches,
            screened_against,
            risk_level,
            processing_time_ms,
        };
        Ok((StatusCode::OK, result))
    };
    respond(&context, done.await)
}

/// The vendor's default threshold, in ten-thousandths.
const THRESHOLD: u16 = 8500;

/// Parses the request. By default, all lists are searched, including aliases.
fn read(body: &[u8]) -> Result<Case, Failure> {
    let body = Object::body(body)?;
    Ok(Case {
        entity: entity(&body.required("entity")?.object()?)?,
        lists: match body.optional("lists") {
            Some(lists) => lists.some_of(WatchlistKind::ALL)?,
            None => WatchlistKind::ALL.to_vec(),
        },
        threshold: body.optional("threshold").map_or(Ok(THRESHOLD), |field| field.fraction())?,
        include_aliases: body.optional("include_aliases").map_or(Ok(true), |field| field.flag())?,
        fuzziness: body
            .optional("fuzziness")
            .map_or(Ok(Fuzziness::Moderate), |field| field.one_of(Fuzziness::ALL))?,
    })
}

fn entity(entity: &Object<'_>) -> Result<Entity, Failure> {
    Ok(Entity {
        kind: entity.required("type")?.one_of(EntityType::ALL)?,
        name: entity.required("name")?.text(TEXT)?,
        date_of_birth: entity.optional("date_of_birth").map(|field| field.date()).transpose()?,
        nationality: entity.optional("nationality").map(|field| field.country()).transpose()?,
        country_of_residence: entity
            .optional("country_of_residence")
            .map(|field| field.country())
            .transpose()?,
        document_number: entity.optional_text("document_number")?,
        registration_number: entity.optional_text("registration_number")?,
    })
}

/// The response: the judgement and its identity.
#[derive(Serialize, ToSchema)]
struct ScreenResult {
    #[schema(example = "scr_0199f3a1b2c37d4e8f5a6b7c8d9e0f1a")]
    id: String,
    #[schema(example = "watchlist.screening")]
    object: &'static str,
    status: ScreeningStatus,
    #[schema(example = 1)]
    hits: usize,
    entity: Entity,
    matches: Vec<Match>,
    screened_against: Vec<Screened>,
    risk_level: RiskLevel,
    #[schema(example = 1)]
    processing_time_ms: u64,
}

/// The entity to screen, and the settings.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct ScreenRequest {
    entity: Entity,
    /// The default is all lists.
    #[schema(min_items = 1)]
    lists: Option<Vec<WatchlistKind>>,
    /// The minimum similarity of a name. The default is 0.85.
    #[schema(minimum = 0, maximum = 1, example = 0.85)]
    threshold: Option<f64>,
    #[schema(example = true)]
    include_aliases: Option<bool>,
    /// The default is `moderate`.
    fuzziness: Option<Fuzziness>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_assumed_as_the_vendor_does() {
        let case = read(br#"{"entity":{"type":"individual","name":"A"}}"#).unwrap();
        assert_eq!((case.threshold, case.include_aliases, case.fuzziness), (8500, true, Fuzziness::Moderate));
        assert_eq!(case.lists, WatchlistKind::ALL);
    }
}
