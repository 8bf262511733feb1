//! What is asked and said about somebody who may stand on a list.

use async_trait::async_trait;
use jiff::civil::Date;
use serde::Serialize;
use utoipa::ToSchema;

use super::{EngineFault, RiskLevel};
use crate::country::Country;
use platform::api_key::Environment;
use platform::text::text_enum;

/// Whether somebody stands on a list.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    async fn judge(&self, of: Environment, case: &Case) -> Result<Screening, EngineFault>;
}

text_enum! {
    /// Who is screened. `entity` and `organization` are the same.
    pub(crate) enum EntityType {
        /// `individual`
        Individual = "individual",
        /// `entity`
        Entity = "entity",
        /// `organization`
        Organization = "organization",
    }
}

text_enum! {
    /// A kind of list.
    pub(crate) enum WatchlistKind {
        /// `sanctions`
        Sanctions = "sanctions",
        /// `pep`
        Pep = "pep",
        /// `adverse_media`
        AdverseMedia = "adverse_media",
    }
}

text_enum! {
    /// How names are compared.
    pub(crate) enum Fuzziness {
        /// `exact`
        Exact = "exact",
        /// `moderate`
        Moderate = "moderate",
        /// `fuzzy`
        Fuzzy = "fuzzy",
    }
}

text_enum! {
    /// How it ended.
    pub(crate) enum ScreeningStatus {
        /// `clear`
        Clear = "clear",
        /// `potential_match`
        PotentialMatch = "potential_match",
        /// `confirmed_hit`
        ConfirmedHit = "confirmed_hit",
    }
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) entity: Entity,
    pub(crate) lists: Vec<WatchlistKind>,
    /// In ten-thousandths: how alike a name must be.
    pub(crate) threshold: u16,
    pub(crate) include_aliases: bool,
    pub(crate) fuzziness: Fuzziness,
}

/// Who is screened, as it was sent.
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

/// The judgement.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Screening {
    pub(crate) status: ScreeningStatus,
    pub(crate) matches: Vec<Match>,
    pub(crate) screened_against: Vec<Screened>,
    pub(crate) risk_level: RiskLevel,
}

/// Somebody on a list who may be meant.
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
    /// The name or alias that is like the one that was sent.
    #[schema(example = "Boris Fictivov")]
    pub(crate) matched_name: &'static str,
    /// How alike they are, before anything else is looked at.
    #[schema(minimum = 0, maximum = 1, example = 0.93)]
    pub(crate) name_similarity: f64,
    /// What else changed the score.
    #[schema(example = json!(["same_date_of_birth"]))]
    pub(crate) adjustments: Vec<&'static str>,
}

/// A list that was looked through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Screened {
    pub(crate) list: WatchlistKind,
    /// How many stand on it.
    #[schema(example = 4)]
    pub(crate) entries: usize,
}
