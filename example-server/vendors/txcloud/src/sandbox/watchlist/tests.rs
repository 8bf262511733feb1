use jiff::civil::date;

use super::*;

fn case(name: &str) -> Case {
    Case {
        entity: Entity {
            kind: Individual,
            name: name.into(),
            date_of_birth: None,
            nationality: None,
            country_of_residence: None,
            document_number: None,
            registration_number: None,
        },
        lists: WatchlistKind::ALL.to_vec(),
        threshold: 8500,
        include_aliases: true,
        fuzziness: Fuzziness::Moderate,
    }
}

fn found(case: &Case) -> (ScreeningStatus, Vec<String>, RiskLevel) {
    let Screening { status, matches, risk_level, .. } = judge(case);
    (status, matches.into_iter().map(|found| found.id).collect(), risk_level)
}

#[test]
fn each_comparison_finds_the_names_that_it_should() {
    use Fuzziness::{Exact, Fuzzy, Moderate};
    for (name, exact, moderate, fuzzy) in [
        ("Boris Fictivov", true, true, true),
        ("BORIS  fictivov", true, true, true),
        ("Jurgen Niemandsland", true, true, true),
        ("Maria Ejemplo-Presidenta", true, true, true),
        ("Boris Fictivof", false, true, true),
        ("Fictivov, Boris", false, false, true),
        ("Somebody Else", false, false, false),
        ("Mohammed El Amrani", false, false, false),
        ("...", false, false, false),
    ] {
        for (fuzziness, expected) in [(Exact, exact), (Moderate, moderate), (Fuzzy, fuzzy)] {
            let case = Case { fuzziness, ..case(name) };
            assert_eq!(found(&case).0 != ScreeningStatus::Clear, expected, "{name} {fuzziness}");
        }
    }
}

#[test]
fn a_similarity_below_the_threshold_is_no_match() {
    let alike = similarity("Boris Fictivof", "Boris Fictivov", Fuzziness::Moderate);
    assert!((9000..10_000).contains(&alike), "{alike}");
    let with = |threshold: i32| Case { threshold: threshold.try_into().unwrap(), ..case("Boris Fictivof") };
    assert_eq!(found(&with(alike)).1, ["mat_s1"]);
    assert_eq!(found(&with(alike + 1)).1, Vec::<String>::new());
    // Adjustments cannot turn a dissimilar name into a match.
    let born = Some(date(1961, 4, 12));
    let mut known = Case { threshold: 8500, ..with(alike + 1) };
    known.entity.date_of_birth = born;
    assert_eq!(found(&known).1, ["mat_s1"]);
    known.threshold = u16::try_from(alike + 1).unwrap();
    assert_eq!(found(&known).1, Vec::<String>::new());
    // A threshold of 0 does not make a match of a name with similarity 0.
    assert_eq!(
        found(&Case { threshold: 0, fuzziness: Fuzziness::Exact, ..case("Nobody") }).1,
        Vec::<String>::new()
    );
}

#[test]
fn aliases_are_compared_unless_excluded() {
    let alias = case("Boris the Invented");
    assert_eq!(judge(&alias).matches[0].match_details.matched_name, "Boris the Invented");
    let names_only = Case { include_aliases: false, threshold: 9000, ..alias };
    assert_eq!(found(&names_only).0, ScreeningStatus::Clear);
}

#[test]
fn only_requested_lists_are_searched() {
    let pep = Case { lists: vec![Pep], ..case("Boris Fictivov") };
    let screening = judge(&pep);
    assert_eq!(screening.status, ScreeningStatus::Clear);
    assert_eq!(screening.screened_against, [Screened { list: Pep, entries: 2 }]);
}

#[test]
fn people_are_not_businesses() {
    let mut business = case("Phantom Shipping S.A.");
    assert_eq!(found(&business).0, ScreeningStatus::Clear);
    for kind in [EntityType::Entity, Organization] {
        business.entity.kind = kind;
        business.threshold = 9000;
        assert_eq!(found(&business).1, ["mat_s4"], "{kind}");
    }
}

#[test]
fn each_adjustment_has_the_effect_in_its_row() {
    let with = |born: Option<&str>, country: Option<&str>| {
        let mut case = case("Boris Fictivov");
        case.threshold = 5000;
        case.entity.date_of_birth = born.map(|born| born.parse().unwrap());
        case.entity.nationality = country.map(|country| country.parse().unwrap());
        let found = judge(&case).matches.remove(0);
        (found.score, found.match_details.adjustments)
    };
    assert_eq!(with(None, None), (1.0, vec![]));
    assert_eq!(with(Some("1961-04-12"), Some("AQ")), (1.0, vec!["same_date_of_birth", "same_country"]));
    assert_eq!(with(Some("1990-01-01"), None), (0.85, vec!["other_date_of_birth"]));
    assert_eq!(with(None, Some("MA")), (0.97, vec!["other_country"]));
    assert_eq!(with(Some("1961-04-12"), Some("MA")), (0.99, vec!["same_date_of_birth", "other_country"]));
}

#[test]
fn the_risk_is_that_of_the_worst_match() {
    use RiskLevel::{Critical, High, Low, Medium};
    use ScreeningStatus::{Clear, ConfirmedHit, PotentialMatch};
    for (name, status, risk) in [
        ("Nobody", Clear, Low),
        ("Boris Fictivov", ConfirmedHit, Critical),
        ("Boris Fictivof", PotentialMatch, High),
        ("Hassan Al-Mithali", ConfirmedHit, High),
        ("Hassan Al-Mithalx", PotentialMatch, Medium),
    ] {
        let (found, _, level) = found(&case(name));
        assert_eq!((found, level), (status, risk), "{name}");
    }
}

#[test]
fn every_entry_is_found_by_its_name_and_by_each_alias() {
    for entry in ENTRIES {
        for name in std::iter::once(&entry.name).chain(entry.aliases) {
            let mut case = case(name);
            case.entity.kind = entry.kind;
            case.lists = vec![entry.list];
            assert_eq!(found(&case).1[0], format!("mat_{}", entry.id), "{name}");
        }
        assert!(entry.country.parse::<Country>().is_ok(), "{}", entry.id);
        assert!(entry.born.is_none_or(|born| born.parse::<Date>().is_ok()), "{}", entry.id);
    }
}
