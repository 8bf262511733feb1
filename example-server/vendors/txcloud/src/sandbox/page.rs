//! Renders the tables as the page `docs/TXCLOUD_SANDBOX.md`. Only a test uses this: readers use the
//! rendered page.

use std::fmt::Write as _;

use super::{Rule, identity, kyb, lending, transaction, watchlist};

/// Renders the page.
#[expect(clippy::too_many_lines, reason = "a page is read from top to bottom")]
fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    section(
        &mut page,
        "Identity",
        &format!(
            "A verification starts at {} points. A rule whose check was requested adds its points and fails the check. With a \
             failed check, the verification is `failed`; otherwise it is `manual_review` from {} points on, and `verified` \
             below. The data read from a document is made up, and the same for the same bytes.",
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
            "A transaction starts at {} points. Amounts are compared as numbers, whatever the currency. A rule that adds \
             points fails its check.",
            transaction::BASE,
        ),
    );
    rules(&mut page, &["check", "points"], transaction::RULES, |effect| {
        vec![format!("`{}`", effect.group.as_str()), format!("{:+}", effect.weight)]
    });
    table(
        &mut page,
        &["points up to", "decision"],
        transaction::DECISIONS.iter().map(|(most, decision)| vec![most.to_string(), format!("`{decision}`")]),
    );

    section(
        &mut page,
        "Lending",
        &format!(
            "An applicant starts at {} points, and the score is limited to 300 to 850. The monthly payment is the loan divided \
             by its months, plus flat interest of {} % a year. The approved amount is at most the requested one, and at most \
             as many monthly incomes as the grade allows. A loan is affordable if all payments take at most half of the \
             income. Amounts are compared as numbers, whatever the currency.",
            lending::BASE,
            lending::FLAT_RATE.value().normalize(),
        ),
    );
    rules(&mut page, &["points"], lending::RULES, |points| vec![format!("{points:+}")]);
    rules(&mut page, &["outcome"], lending::REFUSALS, |outcome| vec![format!("`{outcome}`")]);
    table(
        &mut page,
        &["score from", "grade", "percentile", "outcome", "confidence", "incomes", "tier", "rates, % a year"],
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

    section(&mut page, "Businesses", "The worst finding of the requested checks determines the status.");
    rules(&mut page, &["check", "result", "risk"], kyb::RULES, |effect| {
        vec![format!("`{}`", effect.check), format!("`{}`", effect.status), format!("`{}`", effect.risk)]
    });

    section(
        &mut page,
        "Watchlists",
        &format!(
            "People are compared with people, and businesses with businesses. An entry matches if the similarity of the names \
             reaches the threshold, both before and after the adjustments. From {} on, the match is confirmed.",
            f64::from(watchlist::CONFIRMED_FROM) / 10_000.0,
        ),
    );
    table(
        &mut page,
        &["`fuzziness`", "similarity of the names, 0 to 1"],
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
    write!(page, "\n## {title}\n\n{text}\n").expect("writing to a string cannot fail");
}

/// Renders a table of rules, with the cells of their effects in the middle.
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
    let mut line = |cells: String| writeln!(page, "{cells}").expect("writing to a string cannot fail");
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

These tables are the engines behind the TXCloud API of this server, for test keys and live keys alike. They call no other
service and keep no state, so the same case always has the same result. All names are made up. An image \u{201c}contains\u{201d} a word if
the word occurs among its bytes. Risk scores are limited to 0 to 1000: up to 400 is `low`, up to 600 `medium`, up to 800
`high`, and above that `critical`.

Each of the five engines can be replaced separately, by an implementation of its trait: see
`example-server/vendors/txcloud/src/engines.rs`.

A test compares this page with the tables in `example-server/vendors/txcloud/src/sandbox/`.
";

#[test]
fn the_page_of_rules_matches_the_rules() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/TXCLOUD_SANDBOX.md");
    let page = page();
    if std::env::var_os("WRITE_PAGES").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "{path} is outdated: run this test with WRITE_PAGES=1");
}
