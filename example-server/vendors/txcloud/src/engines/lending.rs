//! The interface of lending assessment engines.

use async_trait::async_trait;
use jiff::civil::Date;
use serde::Serialize;
use utoipa::ToSchema;

use super::EngineError;
use crate::money::{Currency, Money, Rate};
use platform::api_key::Environment;
use platform::text::text_enum;

/// An engine that decides how much to lend to an applicant, and at what price.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    async fn judge(&self, environment: Environment, case: &Case) -> Result<Assessment, EngineError>;
}

/// The input of an assessment.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) applicant: Applicant,
    pub(crate) loan: Loan,
    pub(crate) consent: Consent,
    pub(crate) employment: Option<Employment>,
    /// The monthly payment of each debt, where it is known.
    pub(crate) existing_debts: Vec<Option<Money>>,
    /// The day of the request, which determines the applicant's age.
    pub(crate) today: Date,
}

#[derive(Debug, Clone)]
pub(crate) struct Applicant {
    pub(crate) id: String,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) date_of_birth: Date,
    pub(crate) phone: String,
    pub(crate) email: Option<String>,
    pub(crate) national_id: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Loan {
    pub(crate) amount: Money,
    /// `None`: the currency of the other amounts.
    pub(crate) currency: Option<Currency>,
    pub(crate) term_months: u32,
    pub(crate) purpose: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Consent {
    pub(crate) bureau_check: bool,
    pub(crate) bank_data: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Employment {
    pub(crate) status: Option<EmploymentStatus>,
    pub(crate) employer_name: Option<String>,
    pub(crate) monthly_income: Option<Money>,
    pub(crate) income_currency: Option<Currency>,
}

text_enum! {
    /// An applicant's employment status. The vendor's pages show the first; the others are ours.
    pub(crate) enum EmploymentStatus {
        Employed = "employed",
        SelfEmployed = "self_employed",
        Unemployed = "unemployed",
        Student = "student",
        Retired = "retired",
    }
}

text_enum! {
    /// The recommended decision.
    pub(crate) enum Recommendation {
        Approve = "approve",
        Review = "review",
        Decline = "decline",
    }
}

/// The result of an assessment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Assessment {
    pub(crate) decision: Decision,
    pub(crate) credit_score: CreditScore,
    pub(crate) income_analysis: IncomeAnalysis,
    pub(crate) affordability: Affordability,
    pub(crate) pricing: Pricing,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = LendingDecision)]
pub(crate) struct Decision {
    pub(crate) recommendation: Recommendation,
    #[schema(example = 0.87)]
    pub(crate) confidence: f64,
    pub(crate) max_approved_amount: Money,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct CreditScore {
    #[schema(minimum = 300, maximum = 850, example = 720)]
    pub(crate) score: u16,
    #[schema(example = "B+")]
    pub(crate) grade: &'static str,
    #[schema(minimum = 0, maximum = 100, example = 75)]
    pub(crate) percentile: u8,
    pub(crate) factors: Factors,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Factors {
    #[schema(example = json!(["employed"]))]
    pub(crate) positive: Vec<&'static str>,
    #[schema(example = json!(["many_debts"]))]
    pub(crate) negative: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct IncomeAnalysis {
    #[schema(required)]
    pub(crate) stated_income: Option<Money>,
    /// Present only with the applicant's consent to bank data.
    #[schema(required)]
    pub(crate) verified_income: Option<Money>,
    #[schema(required, example = true)]
    pub(crate) income_match: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Affordability {
    #[schema(required)]
    pub(crate) monthly_income: Option<Money>,
    pub(crate) existing_debt_payments: Money,
    pub(crate) proposed_payment: Money,
    /// Negative if the payments exceed the income.
    #[schema(required)]
    pub(crate) remaining_after_loan: Option<Money>,
    #[schema(example = true)]
    pub(crate) affordable: bool,
    /// The ratio of all debt payments to the income.
    #[schema(required)]
    pub(crate) dti_after: Option<Rate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Pricing {
    #[schema(example = "A")]
    pub(crate) risk_tier: &'static str,
    /// In per cent a year.
    pub(crate) suggested_rate: Rate,
    pub(crate) rate_range: RateRange,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RateRange {
    pub(crate) min: Rate,
    pub(crate) max: Rate,
}
