//! Schemas: the named schemas of a document, inlining of the others, and examples.

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};

type Schemas = Map<String, Value>;

const SCHEMAS: &str = "#/components/schemas/";

/// Returns the schemas by name, with the references to unnamed ones inlined.
///
/// # Panics
///
/// If two different schemas have the same name.
pub(super) fn named(described: impl IntoIterator<Item = (String, RefOr<Schema>)>) -> Schemas {
    let mut raw = Schemas::new();
    for (name, schema) in described {
        let schema = serde_json::to_value(schema).expect("a schema serialises");
        if let Some(other) = raw.insert(name.clone(), schema.clone()) {
            assert_eq!(other, schema, "two structs are described as {name}: `#[schema(as = …)]` renames one");
        }
    }
    let mut schemas = raw.clone();
    for schema in schemas.values_mut() {
        write_out(schema, &raw);
    }
    schemas
}

/// Returns the schemas that the rest of the document references, directly or indirectly.
pub(super) fn referred(rest: &Value, schemas: &Schemas) -> Schemas {
    let mut referred = Schemas::new();
    add_referred(rest, schemas, &mut referred);
    referred
}

fn add_referred(value: &Value, schemas: &Schemas, referred: &mut Schemas) {
    if let Some(name) = reference(value)
        && !referred.contains_key(name)
        && let Some(schema) = schemas.get(name)
    {
        referred.insert(name.to_owned(), schema.clone());
        add_referred(schema, schemas, referred);
    }
    match value {
        Value::Array(values) => values.iter().for_each(|value| add_referred(value, schemas, referred)),
        Value::Object(members) => members.values().for_each(|value| add_referred(value, schemas, referred)),
        _ => {}
    }
}

/// Replaces inlined copies of named schemas by references. They occur in instances of generic
/// structs, which inline their arguments.
pub(super) fn refer(value: &mut Value, schemas: &Schemas) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| refer(value, schemas)),
        Value::Object(members) => members.values_mut().for_each(|value| refer(value, schemas)),
        _ => return,
    }
    let named = |value: &Value| {
        let found = schemas.iter().find(|(name, schema)| *schema == value && keeps_name(name, schema));
        found.map(|(name, _)| name)
    };
    if let Some(name) = named(value) {
        *value = json!({ "$ref": format!("{SCHEMAS}{name}") });
    }
}

/// Inlines references to schemas that do not keep their name: instances of generic structs
/// (`Document_Entity_Validation`), and plain values, which are easier to read in place.
pub(super) fn write_out(value: &mut Value, schemas: &Schemas) {
    if let Some(target) = target(value, schemas) {
        let mut schema = target.clone();
        // Members beside the reference are more specific, so they take precedence.
        if let (Some(schema), Value::Object(beside)) = (schema.as_object_mut(), &*value) {
            schema.extend(beside.clone());
            schema.remove("$ref");
        }
        *value = schema;
    }
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| write_out(value, schemas)),
        Value::Object(members) => members.values_mut().for_each(|value| write_out(value, schemas)),
        _ => {}
    }
    simplify(value);
}

/// Returns an example of a schema, composed of the examples of its leaves. A leaf without an
/// example becomes `null`, which a test detects.
pub(super) fn example(schema: &Value, schemas: &Schemas) -> Value {
    let given = ["example", "const", "default"].iter().find_map(|member| schema.get(member));
    if let Some(example) = given.or_else(|| schema["examples"].get(0)) {
        return example.clone();
    }
    if let Some(name) = reference(schema) {
        return schemas.get(name).map_or(Value::Null, |schema| example(schema, schemas));
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = Map::new();
        for part in parts {
            whole.extend(example(part, schemas).as_object().cloned().unwrap_or_default());
        }
        whole.extend(members(schema, schemas));
        return whole.into();
    }
    let choices = schema["oneOf"]
        .as_array()
        .or_else(|| schema["anyOf"].as_array())
        .or_else(|| schema["enum"].as_array());
    if let Some(choices) = choices {
        let chosen = choices.iter().find(|choice| choice["type"] != "null");
        return match chosen {
            Some(choice) if schema.get("enum").is_some() => choice.clone(),
            Some(choice) => example(choice, schemas),
            None => Value::Null,
        };
    }
    match types(schema).find(|kind| *kind != "null") {
        Some("object") => members(schema, schemas).into(),
        Some("array") => json!([example(&schema["items"], schemas)]),
        Some("boolean") => json!(false),
        Some("string") => match schema["format"].as_str() {
            Some("uuid") => json!("018f3c2e-7b1a-7c3d-9e4f-5a6b7c8d9e0f"),
            Some("date-time") => json!("2025-03-15T14:22:10Z"),
            Some("date") => json!("2025-03-15"),
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

fn members(schema: &Value, schemas: &Schemas) -> Map<String, Value> {
    let properties = schema["properties"].as_object();
    let members =
        properties.into_iter().flatten().map(|(name, schema)| (name.clone(), example(schema, schemas)));
    let mut members: Map<_, _> = members.collect();
    // A singleton's `type` is derived from the name of its attributes.
    if members.get("type").is_some_and(Value::is_null)
        && let Some(name) = reference(&schema["properties"]["attributes"])
    {
        members.insert("type".to_owned(), snake_case(name).into());
    }
    members
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let kind = &schema["type"];
    kind.as_str().into_iter().chain(kind.as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn reference(value: &Value) -> Option<&str> {
    value.get("$ref")?.as_str()?.strip_prefix(SCHEMAS)
}

fn target<'a>(value: &Value, schemas: &'a Schemas) -> Option<&'a Value> {
    let name = reference(value)?;
    schemas.get(name).filter(|schema| !keeps_name(name, schema))
}

/// Returns whether a schema keeps its name: structs and enums do. Instances of generic structs do
/// not; only their names contain an underscore.
fn keeps_name(name: &str, schema: &Value) -> bool {
    let structured =
        ["properties", "enum", "allOf", "oneOf"].iter().any(|member| schema.get(member).is_some());
    structured && !name.contains('_')
}

/// Removes empty parts of an `allOf`, and replaces an `allOf` of a single schema by that schema.
fn simplify(value: &mut Value) {
    let Some(schema) = value.as_object_mut() else { return };
    let Some(Value::Array(mut parts)) = schema.remove("allOf") else { return };
    parts.retain(|part| {
        part.as_object().is_none_or(|part| !part.keys().all(|key| key == "type" || key == "description"))
    });
    match <[Value; 1]>::try_from(parts) {
        Ok([Value::Object(mut only)]) => {
            only.extend(std::mem::take(schema));
            *schema = only;
        }
        Ok(other) => {
            schema.insert("allOf".to_owned(), other.to_vec().into());
        }
        Err(parts) => {
            schema.insert("allOf".to_owned(), parts.into());
        }
    }
}
