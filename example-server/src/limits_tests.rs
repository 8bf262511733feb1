//! Checks that `docs/LIMITS.md` names an existing test for each row.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/LIMITS.md");

/// Collects the names of all functions in a folder and its subfolders.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let found = text.split("fn ").skip(1);
            names.extend(found.map(|rest| rest.split(['(', '<']).next().unwrap_or_default().to_owned()));
        }
    }
}

#[test]
fn each_limit_names_an_existing_test() {
    let mut names = BTreeSet::new();
    let server = Path::new(env!("CARGO_MANIFEST_DIR"));
    functions(server, &mut names);
    functions(&server.join("../tests"), &mut names);
    let (table, _) = PAGE.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect::<Vec<_>>();
    assert!(rows.len() > 8);
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 5, "{row}");
        let tests: Vec<_> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for name in tests {
            assert!(names.contains(name), "there is no test {name}");
        }
    }
}
