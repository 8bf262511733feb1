//! Watchlists: a few made-up entries, and the similarity of names.

use jiff::civil::Date;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::{Rule, triggered};
use crate::country::Country;
use crate::engines::RiskLevel;
use crate::engines::watchlist::{
    Case, Entity, EntityType, Fuzziness, Match, MatchDetails, MatchedEntity, Screened, Screening,
    ScreeningStatus, WatchlistKind,
};

/// An entry of a list.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: &'static str,
    pub(super) list: WatchlistKind,
    /// `Individual`, or `Organization`, which also stands for `entity`.
    pub(super) kind: EntityType,
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) born: Option<&'static str>,
    pub(super) country: &'static str,
}

use EntityType::{Individual, Organization};
use WatchlistKind::{AdverseMedia, Pep, Sanctions};

/// The entries: made up, and from uninhabited territories.
#[rustfmt::skip]
pub(super) const ENTRIES: &[Entry] = &[
    Entry { id: "s1", list: Sanctions, kind: Individual, name: "Boris Fictivov", aliases: &["B. Fictivov", "Boris the Invented"], born: Some("1961-04-12"), country: "AQ" },
    Entry { id: "s2", list: Sanctions, kind: Individual, name: "Jürgen Niemandsland", aliases: &["Juergen Niemand"], born: Some("1970-11-30"), country: "BV" },
    Entry { id: "s3", list: Sanctions, kind: Organization, name: "Contraband Exemplar Trading LLC", aliases: &["Exemplar Contraband"], born: None, country: "HM" },
    Entry { id: "s4", list: Sanctions, kind: Organization, name: "Phantom Shipping SA", aliases: &[], born: None, country: "BV" },
    Entry { id: "p1", list: Pep, kind: Individual, name: "María Ejemplo Presidenta", aliases: &["Maria Ejemplo"], born: Some("1955-02-28"), country: "GS" },
    Entry { id: "p2", list: Pep, kind: Individual, name: "Hassan Al-Mithali", aliases: &["Hasan Almithali"], born: Some("1966-09-09"), country: "IO" },
    Entry { id: "a1", list: AdverseMedia, kind: Individual, name: "Scandal McHeadline", aliases: &[], born: Some("1980-07-01"), country: "HM" },
    Entry { id: "a2", list: AdverseMedia, kind: Organization, name: "Dubious Invoices Ltd", aliases: &["Dubious Invoicing"], born: None, country: "GS" },
];

/// How names are compared. Case, accents, punctuation and repeated spaces are always ignored.
#[cfg(test)]
pub(super) const COMPARISONS: &[(Fuzziness, &str)] = &[
    (Fuzziness::Exact, "1 if the names are equal, otherwise 0"),
    (Fuzziness::Moderate, "the Jaro-Winkler similarity of the names; the default"),
    (
        Fuzziness::Fuzzy,
        "the same, or the similarity with the words in alphabetical order, whichever is higher",
    ),
];

/// The adjustments to the similarity of the names, in ten-thousandths.
pub(super) const ADJUSTMENTS: &[Rule<Pair, i32>] = &[
    Rule {
        name: "same_date_of_birth",
        when: "both dates of birth are known and equal",
        holds: |pair| pair.born.is_some_and(|same| same),
        effect: 200,
        why: "It supports the match.",
    },
    Rule {
        name: "other_date_of_birth",
        when: "both dates of birth are known and differ",
        holds: |pair| pair.born.is_some_and(|same| !same),
        effect: -1500,
        why: "It is probably a different person with the same name.",
    },
    Rule {
        name: "same_country",
        when: "the nationality or the country of residence is the entry's country",
        holds: |pair| pair.country.is_some_and(|same| same),
        effect: 100,
        why: "It supports the match.",
    },
    Rule {
        name: "other_country",
        when: "the nationality or the country of residence is given, and neither is the entry's country",
        holds: |pair| pair.country.is_some_and(|same| !same),
        effect: -300,
        why: "People move, so this counts little.",
    },
];

/// The score from which a match is confirmed. Below it, a match is potential.
pub(super) const CONFIRMED_FROM: i32 = 9950;

/// The risk level of the worst match.
pub(super) const RISKS: &[(ScreeningStatus, Option<WatchlistKind>, RiskLevel)] = &[
    (ScreeningStatus::ConfirmedHit, Some(Sanctions), RiskLevel::Critical),
    (ScreeningStatus::ConfirmedHit, None, RiskLevel::High),
    (ScreeningStatus::PotentialMatch, Some(Sanctions), RiskLevel::High),
    (ScreeningStatus::PotentialMatch, None, RiskLevel::Medium),
];

/// A comparison of the entity with an entry: `None` where either side is unknown, otherwise whether
/// they are equal.
#[derive(Debug)]
pub(super) struct Pair {
    born: Option<bool>,
    country: Option<bool>,
}

impl Pair {
    fn of(entity: &Entity, entry: &Entry) -> Self {
        let countries = [entity.nationality, entity.country_of_residence];
        let mut countries = countries.into_iter().flatten().map(Country::as_str).peekable();
        let born = entry.born.and_then(|born| born.parse::<Date>().ok());
        Self {
            born: entity.date_of_birth.zip(born).map(|(one, other)| one == other),
            country: countries.peek().is_some().then(|| countries.any(|country| country == entry.country)),
        }
    }
}

pub(super) fn judge(case: &Case) -> Screening {
    let mut matches: Vec<_> = ENTRIES.iter().filter_map(|entry| matched(case, entry)).collect();
    // The sort is stable, so entries with equal scores keep their order.
    matches.sort_by(|one, other| other.score.total_cmp(&one.score));
    let count = |list| ENTRIES.iter().filter(|entry| entry.list == list).count();
    Screening {
        status: matches
            .iter()
            .map(|found| found.status)
            .max_by_key(|status| rank(*status))
            .unwrap_or(ScreeningStatus::Clear),
        risk_level: matches.iter().map(risk).max().unwrap_or(RiskLevel::Low),
        screened_against: case
            .lists
            .iter()
            .map(|list| Screened { list: *list, entries: count(*list) })
            .collect(),
        matches,
    }
}

fn rank(status: ScreeningStatus) -> usize {
    ScreeningStatus::ALL.iter().position(|known| *known == status).unwrap_or(0)
}

fn risk(found: &Match) -> RiskLevel {
    let row = RISKS
        .iter()
        .find(|(status, list, _)| *status == found.status && list.is_none_or(|list| list == found.list));
    row.map_or(RiskLevel::Low, |(_, _, risk)| *risk)
}

fn matched(case: &Case, entry: &'static Entry) -> Option<Match> {
    if !case.lists.contains(&entry.list) || (case.entity.kind == Individual) != (entry.kind == Individual) {
        return None;
    }
    let aliases = entry.aliases.iter().filter(|_| case.include_aliases);
    let names = std::iter::once(&entry.name).chain(aliases);
    let alike = names.map(|name| (similarity(&case.entity.name, name, case.fuzziness), *name));
    // The name comes first, so it wins over an alias with the same similarity.
    let (similarity, name) = alike.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    let pair = Pair::of(&case.entity, entry);
    let adjustments: Vec<_> = triggered(ADJUSTMENTS, &pair).collect();
    let score = (similarity + adjustments.iter().map(|rule| rule.effect).sum::<i32>()).clamp(0, SCALE);
    // Adjustments alone cannot turn a dissimilar name into a match.
    if score < case.threshold.into() || similarity < case.threshold.into() || similarity == 0 {
        return None;
    }
    let status =
        if score >= CONFIRMED_FROM { ScreeningStatus::ConfirmedHit } else { ScreeningStatus::PotentialMatch };
    Some(Match {
        id: format!("mat_{}", entry.id),
        list: entry.list,
        score: to_fraction(score),
        status,
        matched_entity: MatchedEntity {
            name: entry.name,
            kind: entry.kind,
            aliases: entry.aliases,
            date_of_birth: entry.born,
            country: entry.country,
        },
        match_details: MatchDetails {
            matched_name: name,
            name_similarity: to_fraction(similarity),
            adjustments: adjustments.iter().map(|rule| rule.name).collect(),
        },
    })
}

/// The scale of scores. They are integers, so that no result depends on floating-point rounding.
const SCALE: i32 = 10_000;

fn to_fraction(score: i32) -> f64 {
    f64::from(score) / f64::from(SCALE)
}

/// Returns the similarity of two names, in ten-thousandths.
pub(super) fn similarity(one: &str, other: &str, fuzziness: Fuzziness) -> i32 {
    let (one, other) = (words(one), words(other));
    let whole = |words: &[String]| words.join(" ");
    let alike = |one: &str, other: &str| {
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of 10 000 is no more than that")]
        let parts = (strsim::jaro_winkler(one, other) * f64::from(SCALE)).round() as i32;
        parts
    };
    let as_written = || alike(&whole(&one), &whole(&other));
    match fuzziness {
        Fuzziness::Exact => i32::from(one == other && !one.is_empty()) * SCALE,
        Fuzziness::Moderate => as_written(),
        Fuzziness::Fuzzy => {
            let sorted = |words: &[String]| {
                let mut words = words.to_vec();
                words.sort_unstable();
                words.join(" ")
            };
            as_written().max(alike(&sorted(&one), &sorted(&other)))
        }
    }
}

/// Returns the words in lower case, without accents. Words are separated by anything but letters
/// and digits.
fn words(name: &str) -> Vec<String> {
    let plain: String = name.nfd().filter(|letter| !is_combining_mark(*letter)).collect();
    let words = plain.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
