use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn documented() -> Value {
    document(&veriko::routes())
}

/// Each operation, by its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    operations.collect()
}

/// Calls `see` with every object of a value and with where it is.
fn walk(value: &Value, place: &str, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => {
            see(place, value);
            members.iter().for_each(|(name, value)| walk(value, &format!("{place}/{name}"), see));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| walk(value, &format!("{place}/{at}"), see));
        }
        _ => {}
    }
}

#[test]
fn every_route_is_described_once_and_in_full() {
    let document = documented();
    let operations = operations(&document);
    assert_eq!(operations.len(), veriko::routes().len());
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no id"));
        assert!(ids.insert(id), "{id} is there twice");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}: summary");
        assert!(operation["tags"].as_array().unwrap().iter().all(|tag| tags.contains(&tag)), "{name}: tag");
        for parameter in operation["parameters"].as_array().unwrap() {
            let described = parameter.get("$ref").is_some() || parameter["description"].is_string();
            assert!(described, "{name}: {parameter}");
        }
        let responses = operation["responses"].as_object().unwrap();
        let succeeds = |status: &str| status.starts_with('2');
        let contents: Vec<_> = responses
            .iter()
            .filter(|(status, _)| succeeds(status))
            .filter_map(|(_, response)| response["content"].as_object())
            .flat_map(Map::values)
            .collect();
        assert!(responses.keys().any(|status| succeeds(status)), "{name}: success");
        assert!(contents.iter().all(|content| content.get("schema").is_some()), "{name}: schema");
        assert!(contents.iter().all(|content| content.get("example").is_some()), "{name}: example");
        let empty = responses.contains_key("204");
        assert!(!contents.is_empty() || empty, "{name}: a success without a body is 204");
    }
}

#[test]
fn every_leaf_of_a_body_has_an_example() {
    let document = documented();
    let mut without = Vec::new();
    walk(&document, "", &mut |place, value| {
        let Some(properties) = value.get("properties").and_then(Value::as_object) else { return };
        // That of what an account has one of is made of the name of its attributes.
        let named = |name: &str| name == "type" && properties.contains_key("attributes");
        for (name, schema) in properties {
            let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
            let leaf = matches!(kind, Some("string" | "integer" | "number"));
            let says =
                ["example", "enum", "const", "default"].iter().any(|member| schema.get(member).is_some());
            let formats = ["date", "date-time", "uuid"].iter().any(|format| schema["format"] == *format);
            if leaf && !says && !formats && !named(name) {
                without.push(format!("{place}/{name}"));
            }
        }
    });
    assert!(without.is_empty(), "{without:#?}");
}

#[test]
fn every_reference_leads_somewhere() {
    let document = documented();
    walk(&document, "", &mut |place, value| {
        if let Some(reference) = value.get("$ref") {
            let target = reference.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(target).is_some(), "{place} refers to {target}");
        }
    });
}

#[test]
fn every_code_has_a_meaning_and_an_operation_or_belongs_to_none() {
    let document = documented();
    let mut answered = BTreeSet::new();
    for (_, operation) in operations(&document) {
        walk(operation, "", &mut |_, value| {
            if let Some(codes) = value.pointer("/code/enum").and_then(Value::as_array) {
                answered.extend(codes.iter().map(|code| code.as_str().unwrap().to_owned()));
            }
        });
    }
    let known: BTreeSet<_> = veriko::CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
    assert!(veriko::CODES.is_sorted_by_key(|(code, _)| code) && known.len() == veriko::CODES.len());
    let (unknown, unused): (Vec<_>, Vec<_>) =
        (answered.difference(&known).collect(), known.difference(&answered).collect());
    assert!(unknown.is_empty(), "without a meaning: {unknown:?}");
    // What is answered where there is no operation.
    assert_eq!(unused, ["bad_request", "method_not_allowed"]);
    let description = document["info"]["description"].as_str().unwrap();
    assert!(known.iter().all(|code| description.contains(&format!("`{code}`"))));
}
