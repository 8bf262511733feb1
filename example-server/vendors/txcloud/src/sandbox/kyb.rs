//! Businesses: the end of the registration number determines the registry's answer.

use super::{Rule, triggered, watchlist};
use crate::engines::RiskLevel;
use crate::engines::kyb::{Case, CheckResult, Checks, Findings, KybCheck, KybCheckStatus, KybStatus};
use crate::engines::watchlist::{
    Case as Screening, Entity, EntityType, Fuzziness, ScreeningStatus, WatchlistKind,
};

/// The effect of a rule on a business.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    /// The check that finds it. The rule is ignored if the check was not requested.
    pub(super) check: KybCheck,
    pub(super) status: KybCheckStatus,
    pub(super) risk: RiskLevel,
}

const fn makes(check: KybCheck, status: KybCheckStatus, risk: RiskLevel) -> Effect {
    Effect { check, status, risk }
}

pub(super) const RULES: &[Rule<Facts, Effect>] = &[
    Rule {
        name: "not_registered",
        when: "`registration_number` ends with `-NOTFOUND`",
        holds: |facts| facts.number_ends_with("-NOTFOUND"),
        effect: makes(KybCheck::Registry, KybCheckStatus::Failed, RiskLevel::High),
        why: "The registry does not know the number.",
    },
    Rule {
        name: "dissolved",
        when: "`registration_number` ends with `-DISSOLVED`",
        holds: |facts| facts.number_ends_with("-DISSOLVED"),
        effect: makes(KybCheck::Registry, KybCheckStatus::Failed, RiskLevel::High),
        why: "The business no longer exists.",
    },
    Rule {
        name: "recently_registered",
        when: "`registration_number` ends with `-NEW`",
        holds: |facts| facts.number_ends_with("-NEW"),
        effect: makes(KybCheck::Registry, KybCheckStatus::Review, RiskLevel::Medium),
        why: "There is no history yet.",
    },
    Rule {
        name: "on_watchlist",
        when: "`legal_name` is a confirmed hit of a `fuzzy` screening",
        holds: |facts| facts.screening == ScreeningStatus::ConfirmedHit,
        effect: makes(KybCheck::Watchlist, KybCheckStatus::Failed, RiskLevel::Critical),
        why: "The name is on a watchlist.",
    },
    Rule {
        name: "maybe_on_watchlist",
        when: "`legal_name` is a potential match of a `fuzzy` screening",
        holds: |facts| facts.screening == ScreeningStatus::PotentialMatch,
        effect: makes(KybCheck::Watchlist, KybCheckStatus::Review, RiskLevel::High),
        why: "A similar name is on a watchlist.",
    },
    Rule {
        name: "owner_unknown",
        when: "`registration_number` ends with `-NOOWNER`",
        holds: |facts| facts.number_ends_with("-NOOWNER"),
        effect: makes(KybCheck::Ownership, KybCheckStatus::Review, RiskLevel::Medium),
        why: "The owner of the business cannot be determined.",
    },
];

/// The facts of a case that the rules use.
#[derive(Debug)]
pub(super) struct Facts {
    registration_number: String,
    screening: ScreeningStatus,
}

impl Facts {
    fn number_ends_with(&self, word: &str) -> bool {
        self.registration_number.ends_with(word)
    }
}

pub(super) fn judge(case: &Case) -> Findings {
    let facts = Facts { registration_number: case.registration_number.clone(), screening: screening(case) };
    let requested = |check| case.checks.contains(&check);
    let found: Vec<_> = triggered(RULES, &facts).filter(|rule| requested(rule.effect.check)).collect();
    let result = |check| {
        requested(check).then(|| {
            let of_check = found.iter().filter(|rule| rule.effect.check == check);
            CheckResult {
                status: of_check
                    .clone()
                    .map(|rule| rule.effect.status)
                    .max()
                    .unwrap_or(KybCheckStatus::Passed),
                findings: of_check.map(|rule| rule.name).collect(),
            }
        })
    };
    let worst = found.iter().map(|rule| rule.effect.status).max().unwrap_or(KybCheckStatus::Passed);
    Findings {
        status: match worst {
            KybCheckStatus::Passed => KybStatus::Verified,
            KybCheckStatus::Review => KybStatus::ManualReview,
            KybCheckStatus::Failed => KybStatus::Failed,
        },
        risk_level: found.iter().map(|rule| rule.effect.risk).max().unwrap_or(RiskLevel::Low),
        checks: Checks {
            registry: result(KybCheck::Registry),
            watchlist: result(KybCheck::Watchlist),
            ownership: result(KybCheck::Ownership),
        },
    }
}

/// Screens the name alone, because the country of registration says little about a business' home.
fn screening(case: &Case) -> ScreeningStatus {
    let entity = Entity {
        kind: EntityType::Organization,
        name: case.legal_name.clone(),
        date_of_birth: None,
        nationality: None,
        country_of_residence: None,
        document_number: None,
        registration_number: None,
    };
    let lists = WatchlistKind::ALL.to_vec();
    let case =
        Screening { entity, lists, threshold: 8500, include_aliases: true, fuzziness: Fuzziness::Fuzzy };
    watchlist::judge(&case).status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(legal_name: &str, registration_number: &str, checks: &[KybCheck]) -> Findings {
        judge(&Case {
            legal_name: legal_name.into(),
            registration_number: registration_number.into(),
            country: "MA".parse().unwrap(),
            checks: checks.to_vec(),
        })
    }

    #[test]
    fn each_rule_has_the_effect_in_its_row() {
        use KybStatus::{Failed, ManualReview, Verified};
        use RiskLevel::{Critical, High, Low, Medium};
        for (name, number, status, risk, finding) in [
            ("Bakery", "RC-1001", Verified, Low, None),
            ("Bakery", "RC-1001-NOTFOUND", Failed, High, Some("not_registered")),
            ("Bakery", "RC-1001-DISSOLVED", Failed, High, Some("dissolved")),
            ("Bakery", "RC-1001-NEW", ManualReview, Medium, Some("recently_registered")),
            ("Bakery", "RC-1001-NOOWNER", ManualReview, Medium, Some("owner_unknown")),
            ("Phantom Shipping SA", "RC-1001", Failed, Critical, Some("on_watchlist")),
            ("Phantom Shipping SAS", "RC-1001", ManualReview, High, Some("maybe_on_watchlist")),
            ("Fantom Shiping SA", "RC-1001", ManualReview, High, Some("maybe_on_watchlist")),
        ] {
            let findings = judged(name, number, KybCheck::ALL);
            assert_eq!((findings.status, findings.risk_level), (status, risk), "{name} {number}");
            let checks = [findings.checks.registry, findings.checks.watchlist, findings.checks.ownership];
            let found: Vec<_> = checks.into_iter().flatten().flat_map(|check| check.findings).collect();
            assert_eq!(found, Vec::from_iter(finding), "{name} {number}");
        }
    }

    #[test]
    fn an_unrequested_check_finds_nothing_and_is_not_reported() {
        let findings = judged("Phantom Shipping SA", "X-NOTFOUND", &[KybCheck::Ownership]);
        assert_eq!((findings.status, findings.risk_level), (KybStatus::Verified, RiskLevel::Low));
        assert!(findings.checks.registry.is_none() && findings.checks.watchlist.is_none());
        assert_eq!(findings.checks.ownership.map(|check| check.status), Some(KybCheckStatus::Passed));
    }
}
