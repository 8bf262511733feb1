//! What is asked and said about a loan.

use async_trait::async_trait;
use jiff::civil::Date;
use serde::Serialize;
use utoipa::ToSchema;

use super::EngineFault;
use crate::money::{Currency, Money, Rate};
use platform::api_key::Environment;
use platform::text::text_enum;

/// How much may be lent to whom, at what price.
#[async_trait]
pub(crate) trait Engine: std::fmt::Debug + Send + Sync {
    async fn judge(&self, of: Environment, case: &Case) -> Result<Assessment, EngineFault>;
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) applicant: Applicant,
    pub(crate) loan: Loan,
    pub(crate) consent: Consent,
    pub(crate) employment: Option<Employment>,
    /// What each debt costs a month, where that was said.
    pub(crate) existing_debts: Vec<Option<Money>>,
    /// The day of the request, by which ages are counted.
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
    /// Where it was left out, whatever the other sums are in.
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
    /// What somebody lives on. The vendor's pages show the first; the others are ours.
    pub(crate) enum EmploymentStatus {
        /// `employed`
        Employed = "employed",
        /// `self_employed`
        SelfEmployed = "self_employed",
        /// `unemployed`
        Unemployed = "unemployed",
        /// `student`
        Student = "student",
        /// `retired`
        Retired = "retired",
    }
}

text_enum! {
    /// What to do.
    pub(crate) enum Recommendation {
        /// `approve`
        Approve = "approve",
        /// `review`
        Review = "review",
        /// `decline`
        Decline = "decline",
    }
}

/// The judgement.
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
    /// Only with the applicant's consent to bank data.
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
    /// Less than nothing where the payments are more than the income.
    #[schema(required)]
    pub(crate) remaining_after_loan: Option<Money>,
    #[schema(example = true)]
    pub(crate) affordable: bool,
    /// All payments as a part of the income.
    #[schema(required)]
    pub(crate) dti_after: Option<Rate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Pricing {
    #[schema(example = "A")]
    pub(crate) risk_tier: &'static str,
    /// Per cent a year.
    pub(crate) suggested_rate: Rate,
    pub(crate) rate_range: RateRange,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RateRange {
    pub(crate) min: Rate,
    pub(crate) max: Rate,
}
