//! The combined document of several APIs. To keep the names of components unique, the name of the
//! API is prepended to them.

use serde_json::{Map, Value, json};

use super::{ApiDocument, info, servers};

/// Combines these documents.
///
/// # Panics
///
/// If two APIs have an operation with the same method and path.
pub(super) fn of(documents: &[ApiDocument]) -> Value {
    let (mut paths, mut tags, mut components) = (Map::new(), Vec::new(), Map::new());
    let mut texts = vec![INTRODUCTION.to_owned()];
    for ApiDocument { name, title, content } in documents {
        let mut content = content.clone();
        rename_references(&mut content, name);
        for (path, item) in members(&content["paths"]) {
            let methods = paths.entry(path).or_insert_with(|| json!({}));
            for (method, mut operation) in members(&item) {
                complete(&mut operation, title, &content);
                let other = methods.as_object_mut().expect("it is an object").insert(method, operation);
                assert!(other.is_none(), "two APIs have an operation with the same method and path");
            }
        }
        for tag in content["tags"].as_array().into_iter().flatten() {
            let description = &tag["description"];
            tags.push(json!({ "name": tag_of(title, &tag["name"]), "description": description }));
        }
        for (kind, named) in members(&content["components"]) {
            let of_kind = components.entry(kind.clone()).or_insert_with(|| json!({}));
            for (component, value) in members(&named) {
                // The names of security schemes are already those of the APIs.
                let own = if kind == "securitySchemes" { component } else { format!("{name}.{component}") };
                of_kind[own] = value;
            }
        }
        let description = content["info"]["description"].as_str().unwrap_or_default();
        texts.push(format!("# {title}\n\nThe document of this API: `/openapi/{name}.json`\n\n{description}"));
    }
    json!({
        "openapi": "3.1.0",
        "info": info("Three APIs on one idempotency layer", &texts.join("\n")),
        "servers": servers(&[("/", "This server")]),
        "tags": tags,
        "paths": paths,
        "components": components,
    })
}

const INTRODUCTION: &str = "\
The APIs of this server. Each has its own keys, error format and rules. Each describes how it answers repeated requests; \
all of them use the same idempotency layer.
";

/// Adds to an operation the parts that its document states for all operations.
fn complete(operation: &mut Value, title: &str, document: &Value) {
    if operation.get("security").is_none() {
        operation["security"] = document["security"].clone();
    }
    if document["servers"].as_array().is_some_and(|servers| servers.len() > 1) {
        operation["servers"] = document["servers"].clone();
    }
    for tag in operation["tags"].as_array_mut().into_iter().flatten() {
        *tag = tag_of(title, tag).into();
    }
}

fn tag_of(title: &str, tag: &Value) -> String {
    format!("{title}: {}", tag.as_str().unwrap_or_default())
}

fn rename_references(value: &mut Value, name: &str) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| rename_references(value, name)),
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some((kind, component)) = reference.rsplit_once('/')
            {
                *reference = format!("{kind}/{name}.{component}");
            }
            members.values_mut().for_each(|value| rename_references(value, name));
        }
        _ => {}
    }
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
