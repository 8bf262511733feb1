//! `docs/RETRY-SAFELY.md`, as its readers go through it: what it shows is what happens.

mod page;
mod shell;
mod vendors;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use page::{Block, blocks, steps};
use shell::Shell;

/// How many blocks of commands the page has.
const STEPS: usize = 22;

static PAGE: LazyLock<String> = LazyLock::new(|| read("docs/RETRY-SAFELY.md"));

#[test]
fn every_command_of_the_walkthrough_says_what_the_page_shows() {
    let steps = steps(&PAGE);
    // Some of them are missed by none of those after them.
    assert_eq!(steps.len(), STEPS, "who adds a step to the page, or takes one away, does so here, too");
    let mut shell = Shell::start();
    for step in steps {
        let said = shell.run(step.commands);
        let line = step.line;
        assert!(
            page::shows(step.shown, &said),
            "line {line} of the page:\n{}\n--- it shows\n{}\n--- it said\n{said}",
            step.commands,
            step.shown
        );
    }
    assert_eq!(shell.left(), "", "the page leaves this running");
}

#[test]
fn the_code_on_the_page_is_that_of_the_programs_it_runs() {
    let programs = ["idempotency-layer/examples/orders.rs", "retry-policy/examples/reqwest.rs"];
    let programs = programs.map(read);
    let mut shown = [0; 2];
    for Block { line, text, .. } in code("rust") {
        let of = programs.iter().position(|program| program.contains(text));
        shown[of.unwrap_or_else(|| panic!("line {line}: no program has this:\n{text}"))] += 1;
    }
    assert_eq!(shown, [3, 1], "handler, main and metrics of the one, all of the other's way to an answer");
}

#[test]
fn the_dependencies_on_the_page_are_those_of_the_programs_it_runs() {
    let workspace = read("Cargo.toml");
    let layer = read("idempotency-layer/Cargo.toml");
    let toml: Vec<_> = code("toml").collect();
    let [Block { text, .. }] = toml[..] else { panic!("not one list of dependencies: {toml:?}") };
    for line in text.lines().skip(1) {
        let (name, rest) = line.split_once(" = ").unwrap_or_else(|| panic!("not a dependency: {line}"));
        let quoted: Vec<_> = rest.split('"').skip(1).step_by(2).collect();
        let ours = workspace.lines().find(|ours| ours.starts_with(&format!("{name} = ")));
        let ours = ours.unwrap_or_else(|| panic!("{name} is not used here"));
        assert!(ours.contains(&format!("\"{}", quoted[0])), "{line}, and here: {ours}");
        if name == "idempotency-layer" {
            for feature in &quoted[1..] {
                assert!(layer.contains(&format!("\n{feature} = [")), "{feature} is no feature of it");
            }
        }
    }
    assert!(text.starts_with("[dependencies]\n") && text.contains("idempotency-layer"), "{text}");
}

/// The page's blocks in this language.
fn code(language: &'static str) -> impl Iterator<Item = Block<'static>> {
    blocks(&PAGE).into_iter().filter(move |block| block.language == language)
}

/// A file of the workspace.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in the workspace");
    fs::read_to_string(root.join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}
