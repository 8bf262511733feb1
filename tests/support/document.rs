//! Answers, held against what the server's `OpenAPI` document says of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use crate::http::Response;
use crate::server::binary;

/// Answers by the server they came from, until they are checked.
static NOTED: Mutex<Vec<(SocketAddr, String, String, Response)>> = Mutex::new(Vec::new());

/// Keeps an answer for [`check_noted`]: looking at it takes a while, which a test of what goes on meanwhile has not.
pub(crate) fn note(from: SocketAddr, method: &str, path: &str, response: &Response) {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    noted.push((from, method.to_owned(), path.to_owned(), response.clone()));
}

/// Fails if any of the answers of this server is not described.
pub(crate) fn check_noted(of: SocketAddr) {
    let answers: Vec<_> = {
        let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extract_if(.., |(from, ..)| *from == of).collect()
    };
    for (_, method, path, response) in answers {
        check(&method, &path, &response);
    }
}

/// Fails if this is an operation of the document, and this is none of the answers that the document describes for it.
fn check(method: &str, path: &str, response: &Response) {
    let document = document();
    let Some(operation) = find(document, method, path) else { return };
    // What is no HTTP to it, the server refuses before it knows of any operation.
    if response.header("x-request-id").is_none() && response.body.is_empty() {
        return;
    }
    let wrong = |what: String| {
        panic!("{method} {path} is answered as the document does not say: {what}\n{}", response.lasting())
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
        // A header is text; what it says may be a number.
        let is_number = schema["type"].to_string().contains("integer");
        let number = if is_number { value.parse().ok().map(Value::Number) } else { None };
        if let Err(fault) = valid(document, schema, &number.unwrap_or_else(|| json!(value))) {
            wrong(format!("{name}: {fault}"));
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
            if let Err(fault) = valid(document, &media["schema"], &body) {
                wrong(fault);
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

/// What the server prints: the same that it serves, and it costs no request.
fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let printed = Command::new(binary()).arg("openapi").output().expect("the server's binary starts");
        serde_json::from_slice(&printed.stdout).expect("the document is JSON")
    })
}

/// The operation at this place. A path without parameters stands before one with some.
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

/// Whether a header is one that the server itself thinks of, and no matter of HTTP alone.
fn is_ours(name: &str) -> bool {
    let named = ["retry-after", "www-authenticate", "content-language"];
    name.starts_with("x-") && name != "x-content-type-options"
        || name.starts_with("idempoten")
        || named.contains(&name)
}

/// The member of this name, whatever its case.
fn member<'d>(object: &'d Value, name: &str) -> Option<&'d Value> {
    let mut members = object.as_object().into_iter().flatten();
    members.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn resolve<'d>(document: &'d Value, mut value: &'d Value) -> &'d Value {
    while let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        let target = document.pointer(reference.trim_start_matches('#'));
        value = target.expect("a reference leads somewhere");
    }
    value
}

fn valid(document: &Value, schema: &'static Value, value: &Value) -> Result<(), String> {
    let validator = validator(document, schema);
    let faults: Vec<_> =
        validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// Made once for each schema, which stays where it is in the document.
fn validator(document: &Value, schema: &'static Value) -> Arc<Validator> {
    static MADE: Mutex<BTreeMap<usize, Arc<Validator>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = || {
        let schemas = &document["components"]["schemas"];
        let whole = json!({ "allOf": [schema], "components": { "schemas": schemas } });
        let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
        Arc::new(options.build(&whole).expect("a schema of the document is one"))
    };
    Arc::clone(made.entry(ptr::from_ref(schema).addr()).or_insert_with(validator))
}

/// Adds what is there and no schema names. An object of which none names anything may hold what it likes.
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
