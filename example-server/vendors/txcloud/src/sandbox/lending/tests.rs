use jiff::civil::date;

use super::*;
use crate::engines::lending::{Applicant, Consent, Loan};

fn money(literal: &str) -> Money {
    Money::read(literal, None).unwrap()
}

/// Returns an applicant of 30 years who is employed, earns 25000 a month, and requests 100000 over
/// 36 months.
fn case() -> Case {
    Case {
        applicant: Applicant {
            id: "usr_1".into(),
            first_name: "Amina".into(),
            last_name: "Exemple".into(),
            date_of_birth: date(1995, 6, 15),
            phone: "+212600000000".into(),
            email: None,
            national_id: None,
        },
        loan: Loan { amount: money("100000"), currency: None, term_months: 36, purpose: None },
        consent: Consent { bureau_check: true, bank_data: false },
        employment: Some(Employment {
            status: Some(EmploymentStatus::Employed),
            employer_name: None,
            monthly_income: Some(money("25000")),
            income_currency: None,
        }),
        existing_debts: Vec::new(),
        today: date(2025, 6, 15),
    }
}

fn changed(change: impl FnOnce(&mut Case)) -> Assessment {
    let mut case = case();
    change(&mut case);
    judge(&case)
}

#[test]
fn a_plain_case_is_computed_exactly() {
    let shown = serde_json::to_value(judge(&case())).unwrap();
    assert_eq!(
        shown["credit_score"],
        serde_json::json!({
            "score": 820, "grade": "A+", "percentile": 95,
            "factors": {
                "positive": ["settled_age", "employed", "light_burden", "no_debts", "bureau_consent"],
                "negative": [],
            },
        })
    );
    // 100000 / 36, plus 1/12 of 12.5 % of 100000.
    assert_eq!(
        shown["affordability"],
        serde_json::json!({
            "monthly_income": 25000, "existing_debt_payments": 0, "proposed_payment": 3819.44,
            "remaining_after_loan": 21180.56, "affordable": true, "dti_after": 0.1528,
        })
    );
    assert_eq!(
        shown["pricing"],
        serde_json::json!({"risk_tier": "A", "suggested_rate": 9, "rate_range": {"min": 8, "max": 10}})
    );
    assert_eq!(
        shown["decision"],
        serde_json::json!({"recommendation": "approve", "confidence": 0.95, "max_approved_amount": 100_000})
    );
}

#[test]
fn each_rule_adds_the_points_in_its_row() {
    let status = |status| move |case: &mut Case| case.employment.as_mut().unwrap().status = status;
    let score = |change: &dyn Fn(&mut Case)| changed(|case| change(case)).credit_score.score;
    let loan = |amount: &'static str| move |case: &mut Case| case.loan.amount = money(amount);
    assert_eq!(score(&|case| case.applicant.date_of_birth = date(1960, 1, 1)), 800, "settled_age");
    assert_eq!(
        score(&|case| case.applicant.date_of_birth = date(2004, 6, 16)),
        760,
        "young, and not settled"
    );
    assert_eq!(score(&|case| case.applicant.date_of_birth = date(2004, 6, 15)), 800, "21 today");
    assert_eq!(score(&status(None)), 760, "employed");
    assert_eq!(score(&status(Some(EmploymentStatus::SelfEmployed))), 780, "other_income");
    assert_eq!(score(&status(Some(EmploymentStatus::Retired))), 780, "other_income");
    assert_eq!(score(&status(Some(EmploymentStatus::Unemployed))), 660, "unemployed");
    assert_eq!(score(&|case| case.employment = None), 610, "no_income_stated; no status, no burden");
    assert_eq!(score(&loan("200000")), 780, "fair_burden");
    assert_eq!(score(&loan("300000")), 750, "neither fair nor heavy");
    assert_eq!(score(&loan("400000")), 630, "heavy_burden");
    assert_eq!(score(&|case| case.existing_debts = vec![None]), 790, "no_debts");
    assert_eq!(score(&|case| case.existing_debts = vec![None; 4]), 730, "many_debts");
    assert_eq!(score(&|case| case.consent.bureau_check = false), 740, "no_bureau_consent");
    assert_eq!(score(&|case| case.consent.bank_data = true), 840, "bank_data");
    assert_eq!(score(&|case| case.applicant.national_id = Some("AE1".into())), 830, "identified");
}

#[test]
fn every_score_has_a_grade_and_every_grade_its_rates() {
    assert!(GRADES.is_sorted_by(|better, worse| better.from > worse.from));
    assert_eq!(GRADES.last().map(|grade| grade.from), Some(300));
    for grade in GRADES {
        let [least, suggested, most] = grade.rates.map(Rate::value);
        assert!(least < suggested && suggested < most, "{}", grade.name);
    }
}

#[test]
fn a_minor_and_an_overburdened_applicant_are_declined_whatever_the_score() {
    let minor = changed(|case| case.applicant.date_of_birth = date(2007, 6, 16));
    let overburdened = changed(|case| case.loan.amount = money("900000"));
    for decision in [minor.decision, overburdened.decision] {
        let decided = (decision.recommendation, decision.max_approved_amount);
        assert_eq!(decided, (Recommendation::Decline, Money::ZERO));
    }
    let of_age = changed(|case| case.applicant.date_of_birth = date(2007, 6, 15)).decision;
    assert_eq!(of_age.recommendation, Recommendation::Approve, "18 today");
}

#[test]
fn the_approved_amount_is_limited_by_the_request_and_the_income() {
    let of = |amount| changed(|case| case.loan.amount = money(amount)).decision.max_approved_amount;
    assert_eq!(of("100000.01"), money("100000.01"));
    assert_eq!(of("400000"), money("100000"), "grade C: four incomes");
}

#[test]
fn the_income_is_verified_only_with_consent() {
    let seen = changed(|case| case.consent.bank_data = true).income_analysis;
    assert_eq!((seen.verified_income, seen.income_match), (Some(money("25000")), Some(true)));
    let unseen = judge(&case()).income_analysis;
    assert_eq!((unseen.stated_income, unseen.verified_income), (Some(money("25000")), None));
}

#[test]
fn the_largest_amounts_do_not_overflow() {
    let largest = || money("99999999999.9999");
    let assessment = changed(|case| {
        case.loan.amount = largest();
        case.loan.term_months = 1;
        case.employment.as_mut().unwrap().monthly_income = Some(money("0.0001"));
        case.existing_debts = vec![Some(largest()); 50];
    });
    serde_json::to_string(&assessment).unwrap();
    let assessment = changed(|case| case.employment.as_mut().unwrap().monthly_income = Some(largest()));
    serde_json::to_string(&assessment).unwrap();
}
