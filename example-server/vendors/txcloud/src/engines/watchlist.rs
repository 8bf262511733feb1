//! The interface of watchlist screening engines.

use async_trait::async_trait;
use jiff::civil::Date;
use serde::Serialize;
use utoipa::ToSchema;

use super::{EngineError, RiskLevel};
use crate::country::Country;
use platform::api_key::Environment;
use platform::text::text_enum;

/// An engine that searches watchlists for an entity.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    async fn judge(&self, environment: Environment, case: &Case) -> Result<Screening, EngineError>;
}

text_enum! {
    /// The type of an entity. `entity` and `organization` are equivalent.
    pub(crate) enum EntityType {
        Individual = "individual",
        Entity = "entity",
        Organization = "organization",
    }
}

text_enum! {
    /// A kind of watchlist.
    pub(crate) enum WatchlistKind {
        Sanctions = "sanctions",
        Pep = "pep",
        AdverseMedia = "adverse_media",
    }
}

text_enum! {
    /// How names are compared.
    pub(crate) enum Fuzziness {
        Exact = "exact",
        Moderate = "moderate",
        Fuzzy = "fuzzy",
    }
}

text_enum! {
    /// The result of a screening.
    pub(crate) enum ScreeningStatus {
        Clear = "clear",
        PotentialMatch = "potential_match",
        ConfirmedHit = "confirmed_hit",
    }
}

/// The input of a screening.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) entity: Entity,
    pub(crate) lists: Vec<WatchlistKind>,
    /// The minimum similarity of a name, in ten-thousandths.
    pub(crate) threshold: u16,
    pub(crate) include_aliases: bool,
    pub(crate) fuzziness: Fuzziness,
}

/// The screened entity, as it was sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ScreenedEntity)]
pub(crate) struct Entity {
    #[serde(rename = "type")]
    pub(crate) kind: EntityType,
    #[schema(example = "Mohammed El Amrani")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, format = Date, example = "1990-05-15")]
    pub(crate) date_of_birth: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) nationality: Option<Country>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) country_of_residence: Option<Country>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "AE123456")]
    pub(crate) document_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "RC-1001")]
    pub(crate) registration_number: Option<String>,
}

/// The result of a screening.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Screening {
    pub(crate) status: ScreeningStatus,
    pub(crate) matches: Vec<Match>,
    pub(crate) screened_against: Vec<Screened>,
    pub(crate) risk_level: RiskLevel,
}

/// An entry of a list that may be the screened entity.
#[expect(clippy::struct_field_names, reason = "the vendor's names")]
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = WatchlistMatch)]
pub(crate) struct Match {
    #[schema(example = "mat_s1")]
    pub(crate) id: String,
    pub(crate) list: WatchlistKind,
    #[schema(minimum = 0, maximum = 1, example = 0.93)]
    pub(crate) score: f64,
    pub(crate) status: ScreeningStatus,
    pub(crate) matched_entity: MatchedEntity,
    pub(crate) match_details: MatchDetails,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct MatchedEntity {
    #[schema(example = "Boris Fictivov")]
    pub(crate) name: &'static str,
    #[serde(rename = "type")]
    pub(crate) kind: EntityType,
    #[schema(example = json!(["B. Fictivov"]))]
    pub(crate) aliases: &'static [&'static str],
    #[schema(required, example = "1961-04-12")]
    pub(crate) date_of_birth: Option<&'static str>,
    #[schema(example = "AQ")]
    pub(crate) country: &'static str,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct MatchDetails {
    /// The name or alias that resembles the one that was sent.
    #[schema(example = "Boris Fictivov")]
    pub(crate) matched_name: &'static str,
    /// The similarity of the two names, before adjustments.
    #[schema(minimum = 0, maximum = 1, example = 0.93)]
    pub(crate) name_similarity: f64,
    /// The adjustments to the score.
    #[schema(example = json!(["same_date_of_birth"]))]
    pub(crate) adjustments: Vec<&'static str>,
}

/// A list that was searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Screened {
    pub(crate) list: WatchlistKind,
    /// The number of its entries.
    #[schema(example = 4)]
    pub(crate) entries: usize,
}
