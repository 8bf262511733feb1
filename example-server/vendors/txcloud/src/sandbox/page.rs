//! The tables as a page for people, `docs/TXCLOUD_SANDBOX.md`. Only a test makes it: the page that is there is the one to read.

use std::fmt::Write as _;

use super::{Rule, identity, kyb, lending, transaction, watchlist};

/// The page, from the tables.
#[expect(clippy::too_many_lines, reason = "a page is read from top to bottom")]
fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    section(
        &mut page,
        "Identity",
        &format!(
            "A verification begins at {} points. A rule whose check was asked for adds its points and makes the check fail; \
         with a failed check the verification is `failed`, else from {} points on `manual_review`, else `verified`. What \
         is read from a document is made up, the same for the same bytes.",
            identity::BASE,
            identity::REVIEW_FROM,
        ),
    );
    rules(&mut page, &["check", "points", "severity"], identity::RULES, |effect| {
        let check = effect.check.map_or_else(|| "any".to_owned(), |check| format!("`{check}`"));
        vec![check, format!("{:+}", effect.weight), format!("`{}`", effect.severity)]
    });

    section(
        &mut page,
        "Transactions",
        &format!(
            "A transaction begins at {} points. A sum counts by its number, whatever the currency. A rule that adds points makes \
         its check fail.",
            transaction::BASE,
        ),
    );
    rules(&mut page, &["check", "points"], transaction::RULES, |effect| {
        vec![format!("`{}`", effect.group.as_str()), format!("{:+}", effect.weight)]
    });
    table(
        &mut page,
        &["points, up to", "decision"],
        transaction::DECISIONS.iter().map(|(most, decision)| vec![most.to_string(), format!("`{decision}`")]),
    );

    section(
        &mut page,
        "Lending",
        &format!(
            "An applicant begins at {} points, and ends between 300 and 850. A payment is the loan over its months, and {} % of \
         it a year. What is approved is no more than was asked for, and no more than so many monthly incomes as the grade \
         has. Affordable is what takes at most half of the income. \
             Sums count by their number, whatever the currency.",
            lending::BASE,
            lending::FLAT_RATE.value().normalize(),
        ),
    );
    rules(&mut page, &["points"], lending::RULES, |points| vec![format!("{points:+}")]);
    rules(&mut page, &["outcome"], lending::REFUSALS, |outcome| vec![format!("`{outcome}`")]);
    table(
        &mut page,
        &[
            "score, from",
            "grade",
            "percentile",
            "outcome",
            "confidence",
            "incomes",
            "tier",
            "rates, % a year",
        ],
        lending::GRADES.iter().map(|grade| {
            let rates = grade.rates.map(|rate| rate.value().normalize().to_string());
            vec![
                grade.from.to_string(),
                grade.name.to_owned(),
                grade.percentile.to_string(),
                format!("`{}`", grade.recommendation),
                format!("0.{:02}", grade.confidence),
                grade.incomes.to_string(),
                grade.tier.to_owned(),
                rates.join(" – "),
            ]
        }),
    );

    section(&mut page, "Businesses", "The worst finding of the checks that were asked for counts.");
    rules(&mut page, &["check", "makes it", "risk"], kyb::RULES, |effect| {
        vec![format!("`{}`", effect.check), format!("`{}`", effect.status), format!("`{}`", effect.risk)]
    });

    section(
        &mut page,
        "Watchlists",
        &format!(
            "People are compared with people, businesses with businesses. A name that is as alike as the threshold, before and after \
         what else is known, is a match; from {} on it is confirmed.",
            f64::from(watchlist::CONFIRMED_FROM) / 10_000.0,
        ),
    );
    table(
        &mut page,
        &["`fuzziness`", "how alike names are, 0 to 1"],
        watchlist::COMPARISONS
            .iter()
            .map(|(fuzziness, how)| vec![format!("`{fuzziness}`"), (*how).to_owned()]),
    );
    rules(&mut page, &["adds"], watchlist::ADJUSTMENTS, |parts| {
        vec![format!("{:+}", f64::from(*parts) / 10_000.0)]
    });
    table(
        &mut page,
        &["worst match", "list", "risk"],
        watchlist::RISKS.iter().map(|(status, list, risk)| {
            let list = list.map_or_else(|| "any".to_owned(), |list| format!("`{list}`"));
            vec![format!("`{status}`"), list, format!("`{risk}`")]
        }),
    );
    table(
        &mut page,
        &["entry", "list", "type", "name", "aliases", "born", "country"],
        watchlist::ENTRIES.iter().map(|entry| {
            vec![
                format!("`{}`", entry.id),
                format!("`{}`", entry.list),
                format!("`{}`", entry.kind),
                entry.name.to_owned(),
                entry.aliases.join(", "),
                entry.born.unwrap_or_default().to_owned(),
                entry.country.to_owned(),
            ]
        }),
    );
    page
}

fn section(page: &mut String, title: &str, text: &str) {
    write!(page, "\n## {title}\n\n{text}\n").expect("a string takes what is written");
}

/// A table of rules, with what their effects are in the middle.
fn rules<Case, Effect>(
    page: &mut String,
    effects: &[&str],
    rules: &[Rule<Case, Effect>],
    cells: impl Fn(&Effect) -> Vec<String>,
) {
    let titles = [&["rule", "if"], effects, &["why"]].concat();
    table(
        page,
        &titles,
        rules.iter().map(|rule| {
            let mut row = vec![format!("`{}`", rule.name), rule.when.to_owned()];
            row.extend(cells(&rule.effect));
            row.push(rule.why.to_owned());
            row
        }),
    );
}

fn table(page: &mut String, titles: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut line = |cells: String| writeln!(page, "{cells}").expect("a string takes what is written");
    line(String::new());
    line(format!("| {} |", titles.join(" | ")));
    line(format!("|{}", "---|".repeat(titles.len())));
    for row in rows {
        assert_eq!(row.len(), titles.len(), "{row:?}");
        line(format!("| {} |", row.join(" | ")));
    }
}

const INTRODUCTION: &str = "\
# The rules of the TXCloud sandbox

The engines behind the TXCloud API of this server are these tables, for test keys and for live ones. They ask nobody and
remember nothing; of the same case they always say the same. All names are made up. What a rule calls \u{201c}holds\u{201d} is a word
among the bytes of an image. Scores of risk end at 0 and at 1000: up to 400 is `low`, up to 600 `medium`, up to 800 `high`, and
more is `critical`.

Each of the five can be replaced alone, by an implementation of its trait: `example-server/vendors/txcloud/src/engines.rs` says how.

A test holds this page to the tables in `example-server/vendors/txcloud/src/sandbox/`.
";

#[test]
fn the_page_of_rules_says_what_the_rules_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/TXCLOUD_SANDBOX.md");
    let page = page();
    if std::env::var_os("WRITE_PAGES").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "run this test with WRITE_PAGES=1: {path} is another page");
}
