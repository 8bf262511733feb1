//! `POST /lending/assess`.

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{Call, respond, timed};
use super::engines::lending::{Applicant, Assessment, Case, Consent, Employment, EmploymentStatus, Loan};
use super::errors::Failure;
use super::ids;
use super::money::{Currency, Money};
use super::reading::{Object, Raw};
use platform::clock;

/// Assesses an applicant for a loan.
#[utoipa::path(
    post, path = "/lending/assess", operation_id = "createAssessment", tag = "Lending", request_body = AssessmentRequest,
    responses(
        (status = 200, description = "The assessment, with offers", body = LendingAssessment),
        (status = 400, description = "missing_parameter invalid_parameter"),
    ),
)]
pub(super) async fn assess(Call { api, user, context }: Call, Raw(body): Raw) -> Response {
    let done = async {
        let case = read(&body, clock::timestamp())?;
        let asking = api.engines.lending.judge(user.environment(), &case);
        let (assessment, _) = timed("lending", asking).await?;
        let (id, object) = (ids::new("lra"), "lending.assessment");
        Ok((StatusCode::OK, LendingAssessment { id, object, status: "completed", assessment }))
    };
    respond(&context, done.await)
}

/// The longest term in months: forty years.
const LONGEST_TERM: u32 = 480;
const MOST_DEBTS: usize = 50;

/// Parses the request.
fn read(body: &[u8], now: Timestamp) -> Result<Case, Failure> {
    let body = Object::body(body)?;
    let today = now.to_zoned(TimeZone::UTC).date();
    Ok(Case {
        applicant: applicant(&body.required("applicant")?.object()?, today)?,
        loan: loan(&body.required("loan_request")?.object()?)?,
        consent: consent(&body.required("consent")?.object()?)?,
        employment: body.optional("employment").map(|field| employment(&field.object()?)).transpose()?,
        existing_debts: match body.optional("existing_debts") {
            Some(debts) => {
                let debts = debts.elements(MOST_DEBTS)?.into_iter();
                let payment = |debt: super::reading::Field<'_>| {
                    debt.object()?.optional("monthly_payment").map(|payment| payment.money(None)).transpose()
                };
                debts.map(payment).collect::<Result<_, Failure>>()?
            }
            None => Vec::new(),
        },
        today,
    })
}

fn applicant(applicant: &Object<'_>, today: Date) -> Result<Applicant, Failure> {
    let text = |name| applicant.required(name)?.text(super::reading::TEXT);
    let (id, first_name, last_name) = (text("id")?, text("first_name")?, text("last_name")?);
    let born = applicant.required("date_of_birth")?;
    let date_of_birth = born.date()?;
    if date_of_birth > today || today.year() - date_of_birth.year() > 150 {
        return Err(born.refused("must be in the past 150 years"));
    }
    Ok(Applicant {
        id,
        first_name,
        last_name,
        date_of_birth,
        phone: text("phone")?,
        email: applicant.optional_text("email")?,
        national_id: applicant.optional_text("national_id")?,
    })
}

fn loan(loan: &Object<'_>) -> Result<Loan, Failure> {
    let amount = loan.required("amount")?;
    let currency = loan.optional("currency").map(|field| field.currency()).transpose()?;
    Ok(Loan {
        amount: amount.money_above_zero(currency)?,
        currency,
        term_months: loan.required("term_months")?.integer(1..=LONGEST_TERM)?,
        purpose: loan.optional_text("purpose")?,
    })
}

fn consent(consent: &Object<'_>) -> Result<Consent, Failure> {
    let flag = |name| consent.optional(name).map_or(Ok(false), |field| field.flag());
    consent.optional("timestamp").map(|field| field.timestamp()).transpose()?;
    Ok(Consent { bureau_check: flag("bureau_check")?, bank_data: flag("bank_data")? })
}

fn employment(employment: &Object<'_>) -> Result<Employment, Failure> {
    let status =
        employment.optional("status").map(|field| field.one_of(EmploymentStatus::ALL)).transpose()?;
    let income_currency = employment.optional("income_currency").map(|field| field.currency()).transpose()?;
    let income =
        employment.optional("monthly_income").map(|field| field.money(income_currency)).transpose()?;
    Ok(Employment {
        status,
        employer_name: employment.optional_text("employer_name")?,
        monthly_income: income,
        income_currency,
    })
}

/// The response: the judgement and its identity.
#[derive(Serialize, ToSchema)]
struct LendingAssessment {
    #[schema(example = "lra_0199f3a1b2c37d4e8f5a6b7c8d9e0f1a")]
    id: String,
    #[schema(example = "lending.assessment")]
    object: &'static str,
    #[schema(example = "completed")]
    status: &'static str,
    #[serde(flatten)]
    assessment: Assessment,
}

/// The applicant and the loan.
#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct AssessmentRequest {
    applicant: ApplicantRequest,
    loan_request: LoanRequest,
    consent: ConsentRequest,
    employment: Option<EmploymentRequest>,
    #[schema(max_items = 50)]
    existing_debts: Option<Vec<DebtRequest>>,
}

#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct ApplicantRequest {
    #[schema(min_length = 1, max_length = 200, example = "usr_abc123")]
    id: String,
    #[schema(min_length = 1, max_length = 200, example = "Amina")]
    first_name: String,
    #[schema(min_length = 1, max_length = 200, example = "Exemple")]
    last_name: String,
    #[schema(value_type = String, format = Date, example = "1990-05-15")]
    date_of_birth: Date,
    #[schema(min_length = 1, max_length = 200, example = "+212612345678")]
    phone: String,
    #[schema(min_length = 1, max_length = 200, example = "amina@example.com")]
    email: Option<String>,
    #[schema(min_length = 1, max_length = 200, example = "AE123456")]
    national_id: Option<String>,
}

#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct LoanRequest {
    /// More than 0, with at most the decimals of its currency.
    #[schema(value_type = f64, exclusive_minimum = 0, maximum = 99_999_999_999.999_9, example = 100_000)]
    amount: Money,
    currency: Option<Currency>,
    #[schema(minimum = 1, maximum = 480, example = 36)]
    term_months: u32,
    #[schema(min_length = 1, max_length = 200, example = "personal")]
    purpose: Option<String>,
}

#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct ConsentRequest {
    #[schema(example = true)]
    bureau_check: Option<bool>,
    #[schema(format = DateTime, example = "2025-01-15T10:30:00Z")]
    timestamp: Option<String>,
    #[schema(example = true)]
    bank_data: Option<bool>,
}

#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct EmploymentRequest {
    status: Option<EmploymentStatus>,
    #[schema(min_length = 1, max_length = 200, example = "Exemple SA")]
    employer_name: Option<String>,
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 99_999_999_999.999_9, example = 25_000)]
    monthly_income: Option<Money>,
    income_currency: Option<Currency>,
}

#[expect(dead_code, reason = "the fields are read by the derive alone")]
#[derive(ToSchema)]
struct DebtRequest {
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 99_999_999_999.999_9, example = 500)]
    monthly_payment: Option<Money>,
}
