//! Checks responses against the server's `OpenAPI` document.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use crate::http::Response;
use crate::server::binary;

/// The responses that were not checked yet, with the server that sent them.
static NOTED: Mutex<Vec<(SocketAddr, String, String, Response)>> = Mutex::new(Vec::new());

/// Keeps a response for [`check_noted`]. Checking takes a while, and would delay a test with
/// concurrent requests.
pub(crate) fn note(from: SocketAddr, method: &str, path: &str, response: &Response) {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    noted.push((from, method.to_owned(), path.to_owned(), response.clone()));
}

/// Fails if a response of this server does not match the document.
pub(crate) fn check_noted(of: SocketAddr) {
    let answers: Vec<_> = {
        let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extract_if(.., |(from, ..)| *from == of).collect()
    };
    for (_, method, path, response) in answers {
        check(&method, &path, &response);
    }
}

/// Fails if this is an operation of the document, and the document does not describe this response.
fn check(method: &str, path: &str, response: &Response) {
    let document = document();
    let Some(operation) = find(document, method, path) else { return };
    // The server rejects malformed HTTP before it routes to an operation.
    if response.header("x-request-id").is_none() && response.body.is_empty() {
        return;
    }
    let wrong = |what: String| {
        panic!("{method} {path}: the document does not describe the response: {what}\n{}", response.lasting())
    };
    let described = &operation["responses"][response.status.to_string()];
    if described.is_null() {
        wrong("the status".to_owned());
    }
    for (name, value) in response.headers.iter().filter(|(name, _)| is_ours(name)) {
        let Some(header) = member(&described["headers"], name) else {
            return wrong(format!("the header {name}"));
        };
        let schema = &resolve(document, header)["schema"];
        // A header is text, but its schema may be a number.
        let is_number = schema["type"].to_string().contains("integer");
        let number = if is_number { value.parse().ok().map(Value::Number) } else { None };
        if let Err(error) = valid(document, schema, &number.unwrap_or_else(|| json!(value))) {
            wrong(format!("{name}: {error}"));
        }
    }
    let kind = response.header("content-type").and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let content = described["content"].as_object().into_iter().flatten();
    let media = content.filter(|(described, _)| *described == kind).map(|(_, media)| media).next();
    match media {
        None if response.body.is_empty() => {}
        None => wrong(format!("the type {kind:?}")),
        Some(media) if kind == "application/json" => {
            let body = response.json();
            if let Err(error) = valid(document, &media["schema"], &body) {
                wrong(error);
            }
            let mut undescribed = Vec::new();
            find_undescribed(document, &[&media["schema"]], &body, "", &mut undescribed);
            if !undescribed.is_empty() {
                wrong(format!("{undescribed:?}"));
            }
        }
        Some(_) => {}
    }
}

/// Returns the printed document. It is the same as the served one, and reading it takes no request.
fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let printed = Command::new(binary()).arg("openapi").output().expect("the server's binary starts");
        serde_json::from_slice(&printed.stdout).expect("the document is JSON")
    })
}

/// Finds the operation. A path without parameters takes precedence over one with parameters.
fn find<'d>(document: &'d Value, method: &str, path: &str) -> Option<&'d Value> {
    let path = path.split('?').next().unwrap_or_default();
    let paths = document["paths"].as_object().expect("a document has paths");
    let mut found: Vec<_> = paths
        .iter()
        .filter_map(|(template, item)| Some((template, item.get(method.to_ascii_lowercase())?)))
        .filter(|(template, operation)| {
            let servers = operation["servers"].as_array().into_iter().flatten();
            let urls =
                servers.filter_map(|server| server["url"].as_str()).map(|url| url.trim_end_matches('/'));
            urls.chain([""]).any(|url| path.strip_prefix(url).is_some_and(|path| matches(template, path)))
        })
        .collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    found.first().map(|(_, operation)| *operation)
}

fn matches(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(expected), Some(given))
                if expected == given || (expected.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}

/// Returns whether the API defines this header, and not HTTP alone.
fn is_ours(name: &str) -> bool {
    let named = ["retry-after", "www-authenticate", "content-language"];
    name.starts_with("x-") && name != "x-content-type-options"
        || name.starts_with("idempoten")
        || named.contains(&name)
}

/// Returns the member with this name, ignoring case.
fn member<'d>(object: &'d Value, name: &str) -> Option<&'d Value> {
    let mut members = object.as_object().into_iter().flatten();
    members.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn resolve<'d>(document: &'d Value, mut value: &'d Value) -> &'d Value {
    while let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        let target = document.pointer(reference.trim_start_matches('#'));
        value = target.expect("every reference resolves");
    }
    value
}

fn valid(document: &Value, schema: &'static Value, value: &Value) -> Result<(), String> {
    let validator = validator(document, schema);
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// Returns the validator of a schema. It is built once, and cached by the schema's address in the
/// document.
fn validator(document: &Value, schema: &'static Value) -> Arc<Validator> {
    static CACHE: Mutex<BTreeMap<usize, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = || {
        let schemas = &document["components"]["schemas"];
        let whole = json!({ "allOf": [schema], "components": { "schemas": schemas } });
        let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
        Arc::new(options.build(&whole).expect("the document's schemas are valid"))
    };
    Arc::clone(cache.entry(ptr::from_ref(schema).addr()).or_insert_with(validator))
}

/// Collects the members that no schema describes. An object whose schemas have no properties may
/// have any member.
fn find_undescribed(
    document: &Value,
    schemas: &[&Value],
    value: &Value,
    place: &str,
    undescribed: &mut Vec<String>,
) {
    let mut parts = Vec::new();
    for schema in schemas {
        add_parts(document, schema, &mut parts);
    }
    match value {
        Value::Array(values) => {
            let items: Vec<_> = parts.iter().filter_map(|part| part.get("items")).collect();
            for value in values {
                find_undescribed(document, &items, value, place, undescribed);
            }
        }
        Value::Object(members) if parts.iter().any(|part| part.get("properties").is_some()) => {
            for (name, value) in members {
                let place = format!("{place}/{name}");
                let described: Vec<_> =
                    parts.iter().filter_map(|part| part.get("properties")?.get(name)).collect();
                if described.is_empty() {
                    undescribed.push(place);
                } else {
                    find_undescribed(document, &described, value, &place, undescribed);
                }
            }
        }
        _ => {}
    }
}

fn add_parts<'d>(document: &'d Value, schema: &'d Value, parts: &mut Vec<&'d Value>) {
    let schema = resolve(document, schema);
    parts.push(schema);
    for kind in ["allOf", "oneOf", "anyOf"] {
        for part in schema[kind].as_array().into_iter().flatten() {
            add_parts(document, part, parts);
        }
    }
}
