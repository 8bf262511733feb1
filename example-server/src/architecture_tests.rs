//! Checks the dependencies between our packages in `docs/ARCHITECTURE.md` against Cargo's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

type Dependencies = BTreeMap<String, BTreeSet<String>>;

/// Reads the packages of this workspace, except for tests, with their dependencies from Cargo.
fn dependencies_from_cargo() -> Dependencies {
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
        // Development and build dependencies have a kind.
        all.iter().filter(|one| one["kind"].is_null()).map(name).filter(|name| ours.contains(name)).collect()
    };
    packages.iter().map(|package| (name(package), dependencies(package))).collect()
}

/// Reads the same dependencies from the page's table.
fn dependencies_from_page() -> Dependencies {
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
fn the_page_shows_the_actual_dependencies() {
    assert_eq!(dependencies_from_page(), dependencies_from_cargo());
}

#[test]
fn dependencies_point_from_the_program_to_vendors_to_the_platform_to_libraries() {
    let all = dependencies_from_cargo();
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
