//! One document of several: what two of them have under one name gets the name of its API before it.

use serde_json::{Map, Value, json};

use super::{ApiDocument, info, servers};

/// The document that holds all of these.
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
                let other = methods.as_object_mut().expect("it was made one").insert(method, operation);
                assert!(other.is_none(), "two APIs have an operation at one place");
            }
        }
        for tag in content["tags"].as_array().into_iter().flatten() {
            let description = &tag["description"];
            tags.push(json!({ "name": tag_of(title, &tag["name"]), "description": description }));
        }
        for (kind, named) in members(&content["components"]) {
            let of_kind = components.entry(kind.clone()).or_insert_with(|| json!({}));
            for (component, value) in members(&named) {
                // These are named for their API as they are.
                let own = if kind == "securitySchemes" { component } else { format!("{name}.{component}") };
                of_kind[own] = value;
            }
        }
        let description = content["info"]["description"].as_str().unwrap_or_default();
        texts.push(format!("# {title}\n\nOn its own: `/openapi/{name}.json`\n\n{description}"));
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
The APIs of this server. Each has its own keys, words and rules; what a repeated request gets is told by each of them, and \
kept by the same layer.
";

/// Says of an operation what its document says of all.
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
