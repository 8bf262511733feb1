//! The dependencies between our packages, as `docs/ARCHITECTURE.md` shows them, against what Cargo knows.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

type Dependencies = BTreeMap<String, BTreeSet<String>>;

/// The packages of this workspace that are no tests, and which of them each depends on.
fn of_cargo() -> Dependencies {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let tests = format!("{}/tests/", metadata["workspace_root"].as_str().unwrap());
    let packages: Vec<_> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| !package["manifest_path"].as_str().unwrap().starts_with(&tests))
        .collect();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<_> = packages.iter().map(|package| name(package)).collect();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap();
        // Those of tests and benchmarks have a kind.
        all.iter().filter(|one| one["kind"].is_null()).map(name).filter(|name| ours.contains(name)).collect()
    };
    packages.iter().map(|package| (name(package), dependencies(package))).collect()
}

/// The same by the table of the page.
fn of_the_page() -> Dependencies {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ARCHITECTURE.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("| package | folder | depends on |\n").unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let quoted =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        (quoted(cells[1]).remove(0), quoted(cells[3]).into_iter().collect())
    })
    .collect()
}

#[test]
fn the_page_shows_the_dependencies_that_cargo_knows() {
    assert_eq!(of_the_page(), of_cargo());
}

#[test]
fn a_vendor_depends_on_no_vendor_the_platform_on_none_and_no_library_on_the_server() {
    let all = of_cargo();
    let server = |name: &str| name == "platform" || name == "example-server" || name.starts_with("vendor-");
    for (package, dependencies) in &all {
        for other in dependencies {
            match package.as_str() {
                "example-server" => {}
                "platform" => assert!(!server(other), "{package} depends on {other}"),
                name if name.starts_with("vendor-") => {
                    assert!(other == "platform" || !server(other), "{package} depends on {other}");
                }
                _ => assert!(!server(other), "{package} depends on {other}"),
            }
        }
    }
    assert!(all.keys().filter(|name| name.starts_with("vendor-")).count() >= 3, "{all:?}");
}
