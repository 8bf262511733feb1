//! Loans: a score in points, and a table with the terms of each grade.

use jiff::civil::Date;
use rust_decimal::Decimal;

use super::{Rule, triggered};
use crate::engines::lending::{
    Affordability, Assessment, Case, CreditScore, Decision, Employment, EmploymentStatus, Factors,
    IncomeAnalysis, Pricing, RateRange, Recommendation,
};
use crate::money::{Money, Rate};

/// The points that each applicant starts with, on a scale of 300 to 850.
pub(super) const BASE: i32 = 600;

/// The rules that change the score.
pub(super) const RULES: &[Rule<Facts, i32>] = &[
    Rule {
        name: "settled_age",
        when: "25 to 60 years old",
        holds: |facts| (25..=60).contains(&facts.age),
        effect: 20,
        why: "The applicant is of working age.",
    },
    Rule {
        name: "young",
        when: "less than 21 years old",
        holds: |facts| facts.age < 21,
        effect: -40,
        why: "There is no history yet.",
    },
    Rule {
        name: "employed",
        when: "`employment.status` is `employed`",
        holds: |facts| facts.works_as(EmploymentStatus::Employed),
        effect: 60,
        why: "The applicant has a regular wage.",
    },
    Rule {
        name: "other_income",
        when: "`employment.status` is `self_employed` or `retired`",
        holds: |facts| {
            facts.works_as(EmploymentStatus::SelfEmployed) || facts.works_as(EmploymentStatus::Retired)
        },
        effect: 20,
        why: "The income is less regular or lower.",
    },
    Rule {
        name: "unemployed",
        when: "`employment.status` is `unemployed`",
        holds: |facts| facts.works_as(EmploymentStatus::Unemployed),
        effect: -100,
        why: "There is no income.",
    },
    Rule {
        name: "no_income_stated",
        when: "`employment.monthly_income` is missing or 0",
        holds: |facts| facts.burden.is_none(),
        effect: -80,
        why: "The ability to repay is unknown.",
    },
    Rule {
        name: "light_burden",
        when: "all payments are at most 0.2 of the income",
        holds: |facts| facts.burden.is_some_and(|burden| burden <= LIGHT),
        effect: 70,
        why: "The loan is small relative to the income.",
    },
    Rule {
        name: "fair_burden",
        when: "all payments are more than 0.2 and at most 0.36 of the income",
        holds: |facts| facts.burden.is_some_and(|burden| burden > LIGHT && burden <= FAIR),
        effect: 30,
        why: "The loan fits the income.",
    },
    Rule {
        name: "heavy_burden",
        when: "all payments are more than 0.5 of the income",
        holds: |facts| facts.burden.is_some_and(|burden| burden > HEAVY),
        effect: -120,
        why: "More than half of the income would go to payments.",
    },
    Rule {
        name: "no_debts",
        when: "`existing_debts` is empty or missing",
        holds: |facts| facts.debts == 0,
        effect: 30,
        why: "There are no other debts.",
    },
    Rule {
        name: "many_debts",
        when: "`existing_debts` has more than 3 entries",
        holds: |facts| facts.debts > 3,
        effect: -60,
        why: "There are many other debts.",
    },
    Rule {
        name: "bureau_consent",
        when: "`consent.bureau_check` is true",
        holds: |facts| facts.bureau_check,
        effect: 40,
        why: "The credit bureau may be consulted.",
    },
    Rule {
        name: "no_bureau_consent",
        when: "`consent.bureau_check` is not true",
        holds: |facts| !facts.bureau_check,
        effect: -40,
        why: "The credit bureau must not be consulted.",
    },
    Rule {
        name: "bank_data",
        when: "`consent.bank_data` is true",
        holds: |facts| facts.bank_data,
        effect: 20,
        why: "The income can be verified.",
    },
    Rule {
        name: "identified",
        when: "`applicant.national_id` is given",
        holds: |facts| facts.identified,
        effect: 10,
        why: "The applicant is identified.",
    },
];

const LIGHT: Decimal = Decimal::from_parts(20, 0, 0, false, 2);
const FAIR: Decimal = Decimal::from_parts(36, 0, 0, false, 2);
const HEAVY: Decimal = Decimal::from_parts(50, 0, 0, false, 2);

/// The terms of a grade.
pub(super) struct Grade {
    /// The lowest score of the grade.
    pub(super) from: u16,
    pub(super) name: &'static str,
    pub(super) percentile: u8,
    pub(super) recommendation: Recommendation,
    /// The confidence in the recommendation, in hundredths.
    pub(super) confidence: u8,
    /// The maximum loan, in monthly incomes.
    pub(super) incomes: u32,
    pub(super) tier: &'static str,
    /// In per cent a year: minimum, suggested, maximum.
    pub(super) rates: [Rate; 3],
}

const fn rates(least: u32, suggested: u32, most: u32) -> [Rate; 3] {
    [Rate::hundredths(least), Rate::hundredths(suggested), Rate::hundredths(most)]
}

/// The grades, from best to worst.
#[rustfmt::skip]
pub(super) const GRADES: &[Grade] = &[
    Grade { from: 780, name: "A+", percentile: 95, recommendation: Recommendation::Approve, confidence: 95, incomes: 12, tier: "A", rates: rates(800, 900, 1000) },
    Grade { from: 740, name: "A", percentile: 85, recommendation: Recommendation::Approve, confidence: 91, incomes: 10, tier: "A", rates: rates(950, 1050, 1200) },
    Grade { from: 700, name: "B+", percentile: 75, recommendation: Recommendation::Approve, confidence: 87, incomes: 8, tier: "A", rates: rates(1100, 1250, 1400) },
    Grade { from: 660, name: "B", percentile: 60, recommendation: Recommendation::Approve, confidence: 78, incomes: 6, tier: "B", rates: rates(1400, 1600, 1800) },
    Grade { from: 600, name: "C", percentile: 40, recommendation: Recommendation::Review, confidence: 60, incomes: 4, tier: "C", rates: rates(1800, 2100, 2400) },
    Grade { from: 540, name: "D", percentile: 20, recommendation: Recommendation::Review, confidence: 55, incomes: 2, tier: "D", rates: rates(2400, 2700, 3000) },
    Grade { from: 300, name: "E", percentile: 5, recommendation: Recommendation::Decline, confidence: 90, incomes: 0, tier: "E", rates: rates(3000, 3300, 3600) },
];

/// The reasons to decline an application regardless of its score.
pub(super) const REFUSALS: &[Rule<Facts, Recommendation>] = &[
    Rule {
        name: "under_age",
        when: "less than 18 years old",
        holds: |facts| facts.age < 18,
        effect: Recommendation::Decline,
        why: "Minors cannot borrow.",
    },
    Rule {
        name: "not_affordable",
        when: "the payments are more than the income",
        holds: |facts| facts.burden.is_some_and(|burden| burden > Decimal::ONE),
        effect: Recommendation::Decline,
        why: "The loan could not be repaid.",
    },
];

/// The facts of a case that the rules use.
#[derive(Debug)]
pub(super) struct Facts {
    age: i16,
    employment: Option<EmploymentStatus>,
    /// The ratio of all payments to the income; `None` without an income.
    burden: Option<Decimal>,
    debts: usize,
    bureau_check: bool,
    bank_data: bool,
    identified: bool,
}

impl Facts {
    fn works_as(&self, status: EmploymentStatus) -> bool {
        self.employment == Some(status)
    }
}

pub(super) fn judge(case: &Case) -> Assessment {
    let sums = Sums::of(case);
    let facts = Facts {
        age: age(case.applicant.date_of_birth, case.today),
        employment: case.employment.as_ref().and_then(|employment| employment.status),
        burden: sums.burden(),
        debts: case.existing_debts.len(),
        bureau_check: case.consent.bureau_check,
        bank_data: case.consent.bank_data,
        identified: case.applicant.national_id.is_some(),
    };
    let points: Vec<_> = triggered(RULES, &facts).collect();
    let score = (BASE + points.iter().map(|rule| rule.effect).sum::<i32>()).clamp(300, 850);
    let score = u16::try_from(score).unwrap_or(300);
    let grade = GRADES.iter().find(|grade| score >= grade.from).unwrap_or(&GRADES[GRADES.len() - 1]);
    let refused: Vec<_> = triggered(REFUSALS, &facts).collect();
    let recommendation = refused.first().map_or(grade.recommendation, |rule| rule.effect);

    let most = Money::rounded(sums.income.unwrap_or_default() * Decimal::from(grade.incomes));
    let max_approved_amount =
        if recommendation == Recommendation::Decline { Money::ZERO } else { most.min(case.loan.amount) };
    let named = |against: bool| -> Vec<_> {
        let points = points.iter().filter(|rule| (rule.effect < 0) == against).map(|rule| rule.name);
        let refused = refused.iter().filter(|_| against).map(|rule| rule.name);
        points.chain(refused).collect()
    };
    let stated_income = sums.income.map(Money::rounded);
    let verified_income = stated_income.filter(|_| case.consent.bank_data);
    let remaining = sums.income.map(|income| income - sums.payments());
    let [least, suggested, highest] = grade.rates;
    Assessment {
        decision: Decision {
            recommendation,
            confidence: f64::from(grade.confidence) / 100.0,
            max_approved_amount,
        },
        credit_score: CreditScore {
            score,
            grade: grade.name,
            percentile: grade.percentile,
            factors: Factors { positive: named(false), negative: named(true) },
        },
        income_analysis: IncomeAnalysis {
            stated_income,
            verified_income,
            income_match: verified_income.map(|verified| Some(verified) == stated_income),
        },
        affordability: Affordability {
            monthly_income: stated_income,
            existing_debt_payments: Money::rounded(sums.debts),
            proposed_payment: Money::rounded(sums.payment),
            remaining_after_loan: remaining.map(Money::rounded),
            affordable: facts.burden.is_some_and(|burden| burden <= HEAVY),
            dti_after: sums.income.and_then(|income| Rate::of(sums.payments(), income)),
        },
        pricing: Pricing {
            risk_tier: grade.tier,
            suggested_rate: suggested,
            rate_range: RateRange { min: least, max: highest },
        },
    }
}

/// The flat rate for the payments before there is a score: in per cent a year, on the whole loan
/// for the whole term.
pub(super) const FLAT_RATE: Rate = Rate::hundredths(1250);

/// The monthly income and payments.
struct Sums {
    /// `None` without an income.
    income: Option<Decimal>,
    debts: Decimal,
    payment: Decimal,
}

impl Sums {
    fn of(case: &Case) -> Self {
        let income = case.employment.as_ref().and_then(|Employment { monthly_income, .. }| *monthly_income);
        let loan = case.loan.amount.value();
        let interest = loan * FLAT_RATE.value() / Decimal::from(100 * 12);
        Self {
            income: income.map(Money::value).filter(|income| !income.is_zero()),
            debts: case.existing_debts.iter().flatten().map(|debt| debt.value()).sum(),
            payment: loan / Decimal::from(case.loan.term_months) + interest,
        }
    }

    fn payments(&self) -> Decimal {
        self.debts + self.payment
    }

    fn burden(&self) -> Option<Decimal> {
        self.payments().checked_div(self.income?)
    }
}

/// Returns the age in whole years on that day. It is negative before the birth.
fn age(born: Date, today: Date) -> i16 {
    let had_birthday = (today.month(), today.day()) >= (born.month(), born.day());
    today.year() - born.year() - i16::from(!had_birthday)
}

#[cfg(test)]
mod tests;
