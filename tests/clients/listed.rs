//! Each function in `tests/python` is run by a test, so that none is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One test for each function of a Python class: `a_name` runs `test_a_name`, with a server of its own.
macro_rules! python_tests {
    ($on:ident, $module:literal, $class:literal: $($name:ident,)+) => {
        $(#[test]
        fn $name() {
            $on(concat!($module, ".", $class, ".test_", stringify!($name)));
        })+
    };
}
pub(crate) use python_tests;

#[test]
fn every_function_of_the_python_tests_is_run_here() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut written, mut run) = (BTreeSet::new(), BTreeSet::new());
    for file in files(&here.join("python"), "py") {
        written.extend(file.lines().filter_map(|line| {
            line.trim_start().strip_prefix("def test_")?.split('(').next().map(str::to_owned)
        }));
    }
    for file in files(&here.join("clients"), "rs") {
        let words = file.split(|c: char| !c.is_alphanumeric() && c != '_');
        run.extend(words.map(|word| word.strip_prefix("test_").unwrap_or(word).to_owned()));
    }
    let forgotten: Vec<_> = written.difference(&run).collect();
    assert!(!written.is_empty() && forgotten.is_empty(), "{forgotten:?}");
}

/// What the files of a folder hold, and of those below it.
fn files(folder: &Path, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|given| given == extension) {
            found.push(fs::read_to_string(&path).expect("it is text"));
        }
    }
    found
}
