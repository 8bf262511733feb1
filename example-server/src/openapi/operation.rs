//! What operations have in common: it follows from the flags of their routes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{errors, schema};
use crate::route::{Access, Route};

/// The codes of each status that is none of success.
pub(super) type Codes = BTreeMap<u16, Vec<String>>;

/// Adds to an operation what its route implies.
pub(super) fn complete<S>(operation: &mut Value, route: &Route<S>, schemas: &Map<String, Value>) {
    let takes_body = operation.get("requestBody").is_some();
    if let Some(body) = operation.get_mut("requestBody") {
        body["required"] = json!(true);
        exemplify(body, schemas);
    }
    let by_id = route.path.contains("{id}");
    add_parameters(operation, route.idempotent, by_id);
    match route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Key => {}
        Access::Permission(permission) => {
            let text = operation["description"].as_str().unwrap_or_default();
            operation["description"] =
                json!(format!("{text}\n\nNeeds the permission `{permission}`.").trim());
        }
    }
    let mut codes = implied(route, takes_body, by_id);
    let mut responses = Map::new();
    for (status, mut response) in operation["responses"].as_object().cloned().unwrap_or_default() {
        let number: u16 = status.parse().unwrap_or_default();
        if number >= 400 {
            let listed = response["description"].as_str().unwrap_or_default().split_whitespace();
            let of_status = codes.entry(number).or_default();
            // Its own stand before the common ones.
            let common = std::mem::replace(of_status, listed.map(str::to_owned).collect());
            of_status.extend(common);
        } else {
            exemplify(&mut response, schemas);
            add_headers(&mut response, headers_of(number, route));
            responses.insert(status, response);
        }
    }
    for (status, codes) in &codes {
        let mut response = errors::response(*status, codes);
        add_headers(&mut response, headers_of(*status, route));
        responses.insert(status.to_string(), response);
    }
    operation["responses"] = responses.into();
}

fn implied<S>(route: &Route<S>, takes_body: bool, by_id: bool) -> Codes {
    let mut codes = Codes::new();
    let mut add = |status, more: &[&str]| {
        codes.entry(status).or_default().extend(more.iter().map(|code| (*code).to_owned()));
    };
    if by_id {
        add(404, &["not_found"]);
        add(422, &["invalid_uuid"]);
    }
    if takes_body {
        add(400, &["body_empty", "invalid_json"]);
    }
    if takes_body || route.idempotent {
        add(400, &["body_unreadable"]);
        add(408, &["request_timeout"]);
        add(413, &["body_too_large"]);
    }
    if route.idempotent {
        add(400, &["invalid_idempotency_key"]);
        add(
            409,
            &["idempotency_key_in_progress", "idempotent_response_unavailable", "idempotent_outcome_unknown"],
        );
        add(422, &["idempotency_key_reused"]);
        add(503, &["idempotency_unavailable", "rolled_back", "outcome_unknown"]);
    }
    if route.access != Access::Public {
        add(401, &["unauthorized"]);
        add(429, &["rate_limit_exceeded"]);
        // The database, which knows the keys.
        add(503, &["service_unavailable"]);
    }
    if let Access::Permission(_) = route.access {
        add(403, &["forbidden"]);
    }
    add(500, &["internal_error"]);
    codes
}

fn add_parameters(operation: &mut Value, idempotent: bool, by_id: bool) {
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let described = parameters.iter().any(|parameter| parameter["in"] == "path");
    if by_id && !described {
        let id = json!({
            "name": "id", "in": "path", "required": true, "description": "Which one.",
            "schema": { "type": "string", "format": "uuid" },
            "example": "018f3c2e-7b1a-7c3d-9e4f-5a6b7c8d9e0f",
        });
        parameters.insert(0, id);
    }
    if idempotent {
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    parameters.push(json!({ "$ref": "#/components/parameters/AcceptLanguage" }));
    operation["parameters"] = parameters.into();
}

/// The parameters that operations share.
pub(super) fn parameters() -> Value {
    json!({
        "IdempotencyKey": {
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A key of your choice, a UUID for instance. A request that is sent again with it happens once.",
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,255}$" },
        },
        "AcceptLanguage": {
            "name": "Accept-Language", "in": "header", "required": false,
            "description": "The language of `detail`: `en`, or `es`.",
            "schema": { "type": "string" },
        },
    })
}

/// The headers of answers.
pub(super) fn headers() -> Value {
    let header = |description: &str, schema: Value| json!({ "description": description, "schema": schema });
    json!({
        "X-Request-Id": header("What this request is known by; the same as `meta.request_id`.", json!({ "type": "string", "pattern": "^[0-9a-f]{12}$" })),
        "X-RateLimit-Limit": header("How many requests a minute the key has.", json!({ "type": "integer", "minimum": 1 })),
        "X-RateLimit-Remaining": header("How many of them are left now.", json!({ "type": "integer", "minimum": 0 })),
        "X-RateLimit-Reset": header("When all of them are there again, in seconds since 1970.", json!({ "type": "integer" })),
        "Idempotent-Replayed": header("Of a request with an `Idempotency-Key`: whether this is the answer of an earlier one.", json!({ "type": "string", "enum": ["true", "false"] })),
        "Content-Language": header("The language of `detail`.", json!({ "type": "string", "enum": ["en", "es"] })),
        "Retry-After": header("When to come back, in seconds.", json!({ "type": "integer", "minimum": 1 })),
        "WWW-Authenticate": header("How to say who calls.", json!({ "type": "string", "const": "Bearer" })),
    })
}

fn headers_of<S>(status: u16, route: &Route<S>) -> Vec<&'static str> {
    let mut headers = vec!["X-Request-Id"];
    let keyed = route.access != Access::Public;
    if status == 401 {
        headers.push("WWW-Authenticate");
    }
    if errors::may_say_when(status) {
        headers.push("Retry-After");
    }
    if keyed && (status < 300 || status == 429) {
        headers.extend(["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]);
    }
    if route.idempotent && !matches!(status, 401 | 403) {
        headers.push("Idempotent-Replayed");
    }
    if status >= 400 {
        headers.push("Content-Language");
    }
    headers
}

fn add_headers(response: &mut Value, names: Vec<&str>) {
    for name in names {
        let own = &mut response["headers"][name];
        if own.is_null() {
            *own = json!({ "$ref": format!("#/components/headers/{name}") });
        }
    }
}

/// Gives a body that has none an example.
fn exemplify(body: &mut Value, schemas: &Map<String, Value>) {
    let Some(content) = body.get_mut("content").and_then(Value::as_object_mut) else { return };
    for media in content.values_mut() {
        if media.get("example").is_none() && media.get("examples").is_none() {
            media["example"] = schema::example(&media["schema"], schemas);
        }
    }
}
