//! Checks the APIs' descriptions against their routes.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use platform::openapi::{ApiDocument, Documented};
use platform::route::{Access, Route};
use vendor_mintfax::Mintfax;
use vendor_txcloud::Txcloud;
use vendor_veriko::Veriko;

use crate::documents;

/// Returns the document that combines all APIs.
fn whole() -> Value {
    platform::openapi::whole(&documents())
}

/// Returns each document with the number of its routes.
fn documented() -> Vec<(ApiDocument, usize)> {
    let routes =
        [vendor_veriko::routes().len(), vendor_txcloud::routes().len(), vendor_mintfax::routes().len()];
    documents().into_iter().zip(routes).collect()
}

/// Returns the contents of all documents, including the combined one.
fn contents() -> Vec<Value> {
    documents().into_iter().map(|document| document.content).chain([whole()]).collect()
}

/// Returns each operation with its method and path.
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

/// Calls `see` with the path and the value of every object within `value`.
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
    for (document, routes) in documented() {
        assert_eq!(operations(&document.content).len(), routes, "{}", document.name);
        described_in_full(&document.content);
    }
    let whole = whole();
    let routes = documented().iter().map(|(_, routes)| routes).sum::<usize>();
    assert_eq!(operations(&whole).len(), routes);
    described_in_full(&whole);
}

fn described_in_full(document: &Value) {
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(document) {
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

/// Returns what the routes themselves say, independently of the document.
fn flags<S>(prefix: &str, routes: Vec<Route<S>>) -> Vec<(String, bool, Access)> {
    let flags = |route: Route<S>| {
        let item = serde_json::to_value(&route.described.paths.paths[&route.path]).unwrap();
        let methods: Vec<_> = item.as_object().unwrap().keys().cloned().collect();
        let [method] = methods.try_into().unwrap();
        (format!("{method} {prefix}{}", route.path), route.idempotent, route.access)
    };
    routes.into_iter().map(flags).collect()
}

#[test]
fn an_operation_describes_the_middleware_in_front_of_it() {
    let (all, documents) = (whole(), documents());
    let flags = [
        flags(Veriko::PREFIX, vendor_veriko::routes()),
        flags(Txcloud::PREFIX, vendor_txcloud::routes()),
        flags(Mintfax::PREFIX, vendor_mintfax::routes()),
    ];
    assert_eq!(documents.len(), flags.len());
    for (document, flags) in documents.iter().zip(flags) {
        for (name, idempotent, access) in flags {
            for (prefix, content) in
                [(String::new(), &document.content), (format!("{}.", document.name), &all)]
            {
                let operation = operations(content).into_iter().find(|(place, _)| *place == name).unwrap().1;
                let key = format!("#/components/parameters/{prefix}IdempotencyKey");
                let parameters = operation["parameters"].as_array().unwrap();
                let takes_key = parameters.iter().any(|parameter| parameter["$ref"] == *key);
                assert_eq!(takes_key, idempotent, "{name}");
                let security = operation.get("security").unwrap_or(&content["security"]);
                let expected =
                    if access == Access::Public { json!([]) } else { json!([{ document.name: [] }]) };
                assert_eq!(*security, expected, "{name}");
                let answers = |status: &str| operation["responses"].get(status).is_some();
                assert_eq!(answers("401"), access != Access::Public, "{name}");
                assert_eq!(answers("429"), access != Access::Public, "{name}");
                assert_eq!(answers("403"), matches!(access, Access::Permission(_)), "{name}");
                let in_progress =
                    operation["responses"].to_string().contains("`idempotency_key_in_progress`");
                assert_eq!(in_progress, idempotent, "{name}");
            }
        }
    }
}

#[test]
fn every_leaf_of_a_body_has_an_example() {
    let mut without = Vec::new();
    for document in contents() {
        walk(&document, "", &mut |place, value| {
            let Some(properties) = value.get("properties").and_then(Value::as_object) else { return };
            // The example of this `type` comes from the name of its attributes' schema.
            let named = |name: &str| name == "type" && properties.contains_key("attributes");
            for (name, schema) in properties {
                let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
                let leaf = matches!(kind, Some("string" | "integer" | "number"));
                let says =
                    ["example", "enum", "const", "default"].iter().any(|member| schema.get(member).is_some());
                let formats =
                    ["date", "date-time", "uuid", "binary"].iter().any(|format| schema["format"] == *format);
                if leaf && !says && !formats && !named(name) {
                    without.push(format!("{place}/{name}"));
                }
            }
        });
    }
    assert!(without.is_empty(), "{without:#?}");
}

#[test]
fn every_reference_resolves() {
    for document in contents() {
        walk(&document, "", &mut |place, value| {
            if let Some(reference) = value.get("$ref") {
                let target = reference.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(target).is_some(), "{place} refers to {target}");
            }
        });
    }
}

#[test]
fn every_code_has_a_meaning_and_is_answered_by_an_operation_or_outside_of_all() {
    // Codes that are answered only where there is no operation.
    let outside: [(_, &[&str]); 3] = [
        (Veriko::CODES, &["bad_request", "method_not_allowed"]),
        (Txcloud::CODES, &["method_not_allowed"]),
        (Mintfax::CODES, &["method_not_allowed"]),
    ];
    for (document, (codes, expected)) in documents().iter().zip(outside) {
        let mut answered = BTreeSet::new();
        for (_, operation) in operations(&document.content) {
            walk(operation, "", &mut |_, value| {
                let codes = value.pointer("/code/enum").or_else(|| value.pointer("/error/enum"));
                if let Some(codes) = codes.and_then(Value::as_array) {
                    answered.extend(codes.iter().map(|code| code.as_str().unwrap().to_owned()));
                }
            });
        }
        let known: BTreeSet<_> = codes.iter().map(|(code, _)| (*code).to_owned()).collect();
        assert_eq!(known.len(), codes.len(), "{}: a code is there twice", document.name);
        let (unknown, unused): (Vec<_>, Vec<_>) =
            (answered.difference(&known).collect(), known.difference(&answered).collect());
        assert!(unknown.is_empty(), "{}: without a meaning: {unknown:?}", document.name);
        assert_eq!(unused, expected, "{}", document.name);
        let description = document.content["info"]["description"].as_str().unwrap();
        assert!(known.iter().all(|code| description.contains(&format!("`{code}`"))));
    }
    assert!(Veriko::CODES.is_sorted_by_key(|(code, _)| code));
}
