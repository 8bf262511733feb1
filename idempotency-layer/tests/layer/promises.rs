//! `docs/PROMISES.md` names a test for each cell of the tables of promises in the crate documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const CRATE_DOCS: &str = include_str!("../../src/lib.rs");
const PAGE: &str = include_str!("../../../docs/PROMISES.md");

type Table = Vec<Vec<String>>;

/// Returns the tables of a text, without their headings.
fn tables<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Table> {
    let (mut tables, mut inside) = (Vec::<Table>::new(), false);
    for line in lines {
        let row = line.trim().strip_prefix('|').and_then(|row| row.strip_suffix('|'));
        match row {
            Some(_) if !inside => tables.push(Vec::new()),
            Some(row) if !row.starts_with("---") => {
                let cells = row.split('|').map(|cell| cell.trim().to_owned()).collect();
                tables.last_mut().unwrap().push(cells);
            }
            _ => {}
        }
        inside = row.is_some();
    }
    tables
}

fn promised() -> Vec<Table> {
    let docs = CRATE_DOCS.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim);
    tables(
        docs.skip_while(|line| *line != "# What it promises, and where that ends")
            .take_while(|line| *line != "# Another API's contract"),
    )
}

/// Collects the names of all functions in a folder and its subfolders.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let found = text.split("fn ").skip(1).map(|rest| {
                rest.chars()
                    .take_while(|character| character.is_alphanumeric() || *character == '_')
                    .collect()
            });
            names.extend(found);
        }
    }
}

#[test]
fn each_cell_of_the_promises_has_a_test_that_exists() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    functions(&crates.join("tests"), &mut names);
    functions(&crates.join("../tests"), &mut names);

    let (promised, tested) = (promised(), tables(PAGE.lines()));
    assert_eq!((promised.len(), tested.len()), (4, 4));
    for (promised, tested) in promised.iter().zip(&tested) {
        let labels = |table: &Table| table.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
        assert_eq!(labels(promised), labels(tested));
        for (promise, tests) in promised.iter().zip(tested) {
            assert_eq!(promise.len(), tests.len(), "{}", promise[0]);
            for (column, cell) in tests.iter().enumerate().skip(1) {
                let shown_by: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
                // An empty cell promises the same as the one before it, and the same test shows it.
                let is_repeated =
                    column > 1 && ["the same", &promise[column - 1]].contains(&&*promise[column]);
                assert!(!shown_by.is_empty() || is_repeated, "no test: {}, column {column}", promise[0]);
                for name in shown_by {
                    assert!(names.contains(name), "there is no test {name}");
                }
            }
        }
    }
}
