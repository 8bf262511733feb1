//! The parts that operations share, which follow from the flags of their routes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::documented::{Documented, Failures, Header, On};
use super::schema;
use crate::rate_limit_headers::{Reset, Sent};
use crate::route::{Access, Route};

/// The error codes by status.
type Codes = BTreeMap<u16, Vec<String>>;

/// Adds the parts of an operation that its route implies.
pub(super) fn complete<V: Documented, S>(
    operation: &mut Value,
    route: &Route<S>,
    schemas: &Map<String, Value>,
) {
    let takes_body = operation.get("requestBody").is_some();
    if let Some(body) = operation.get_mut("requestBody") {
        body["required"] = json!(true);
        exemplify(body, schemas);
    }
    let by_id = route.path.contains("{id}");
    add_parameters::<V>(operation, route.idempotent, by_id);
    match route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Key => {}
        Access::Permission(permission) => {
            let text = operation["description"].as_str().unwrap_or_default();
            operation["description"] =
                json!(format!("{text}\n\nRequires the permission `{permission}`.").trim());
        }
    }
    let mut codes = implied::<V, _>(route, takes_body, by_id);
    let mut responses = Map::new();
    for (status, mut response) in operation["responses"].as_object().cloned().unwrap_or_default() {
        let number: u16 = status.parse().unwrap_or_default();
        if number >= 400 {
            let listed = response["description"].as_str().unwrap_or_default().split_whitespace();
            let of_status = codes.entry(number).or_default();
            // The codes of the operation come before the implied ones.
            let common = std::mem::replace(of_status, listed.map(str::to_owned).collect());
            of_status.extend(common.into_iter().filter(|code| !of_status.contains(code)).collect::<Vec<_>>());
        } else {
            exemplify(&mut response, schemas);
            add_headers(&mut response, headers_of::<V, _>(number, route));
            responses.insert(status, response);
        }
    }
    for (status, codes) in &codes {
        let mut response = failure::<V>(*status, codes);
        add_headers(&mut response, headers_of::<V, _>(*status, route));
        responses.insert(status.to_string(), response);
    }
    operation["responses"] = responses.into();
}

/// Returns the error response with this status: its possible codes, and an example of the first.
fn failure<V: Documented>(status: u16, codes: &[String]) -> Value {
    let described: Vec<_> = codes.iter().map(|code| format!("- `{code}`: {}", V::meaning(code))).collect();
    let body = V::failure(&Failures { status, codes, may_say_when: may_say_when(status) });
    json!({
        "description": described.join("\n"),
        "content": { "application/json": { "schema": body.schema, "example": body.example } },
    })
}

/// Returns whether a response with this status can have `Retry-After`.
fn may_say_when(status: u16) -> bool {
    matches!(status, 409 | 429 | 503)
}

fn implied<V: Documented, S>(route: &Route<S>, takes_body: bool, by_id: bool) -> Codes {
    let implied = V::IMPLIED;
    let keyed = route.access != Access::Public;
    let flags = [
        (by_id, implied.by_id),
        (takes_body, implied.takes_body),
        (takes_body || route.idempotent, implied.reads_body),
        (route.idempotent, implied.idempotent),
        (keyed, implied.key),
        (matches!(route.access, Access::Permission(_)), implied.permission),
        (true, implied.any),
    ];
    let mut codes = Codes::new();
    for (status, more) in flags.into_iter().filter(|(holds, _)| *holds).flat_map(|(_, rows)| rows) {
        let of_status = codes.entry(*status).or_default();
        for code in *more {
            if !of_status.iter().any(|known| known == code) {
                of_status.push((*code).to_owned());
            }
        }
    }
    codes
}

fn add_parameters<V: Documented>(operation: &mut Value, idempotent: bool, by_id: bool) {
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let described = parameters.iter().any(|parameter| parameter["in"] == "path");
    if by_id && !described {
        let id = json!({
            "name": "id", "in": "path", "required": true, "description": "The id.", "schema": V::id(),
        });
        parameters.insert(0, id);
    }
    for (name, parameter) in shared_parameters::<V>() {
        if idempotent || parameter["name"] != IDEMPOTENCY_KEY {
            parameters.push(json!({ "$ref": format!("#/components/parameters/{name}") }));
        }
    }
    operation["parameters"] = parameters.into();
}

/// Returns the parameters that operations share, by name.
pub(super) fn parameters<V: Documented>() -> Value {
    shared_parameters::<V>().into_iter().collect::<Map<_, _>>().into()
}

fn shared_parameters<V: Documented>() -> Vec<(String, Value)> {
    let key = json!({
        "name": IDEMPOTENCY_KEY, "in": "header", "required": false,
        "description": "A key of your choice, such as a UUID. Repeated requests with the same key take effect once.",
        "schema": V::idempotency_key(),
    });
    let parameters = std::iter::once(key).chain(V::parameters());
    let named = |parameter: Value| {
        (parameter["name"].as_str().expect("a parameter has a name").replace('-', ""), parameter)
    };
    parameters.map(named).collect()
}

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Returns the response headers, by name.
pub(super) fn headers<V: Documented>() -> Value {
    let header = |description: &str, schema: Value| json!({ "description": description, "schema": schema });
    let own = V::headers().into_iter();
    let mut headers: Map<_, _> = own
        .map(|Header { name, description, schema, .. }| (name.to_owned(), header(description, schema)))
        .collect();
    let reset = match V::RATE_LIMIT_HEADERS.reset {
        Reset::EpochSeconds => {
            "The time at which the limit is fully available again, in seconds since the Unix epoch."
        }
        Reset::SecondsLeft => "The number of seconds until the limit is fully available again.",
    };
    let integer = |minimum: u32| json!({ "type": "integer", "minimum": minimum });
    for (name, description, schema) in [
        ("X-RateLimit-Limit", "The number of requests per minute that the key allows.", integer(1)),
        ("X-RateLimit-Remaining", "The number of requests that remain now.", integer(0)),
        ("X-RateLimit-Reset", reset, integer(0)),
        ("Retry-After", "The number of seconds to wait before retrying.", integer(1)),
        ("WWW-Authenticate", "The authentication scheme.", json!({ "type": "string", "const": "Bearer" })),
    ] {
        headers.insert(name.to_owned(), header(description, schema));
    }
    if V::RATE_LIMIT_HEADERS.window {
        headers.insert(
            WINDOW.to_owned(),
            header("The window of the rate limit, in seconds.", json!({ "type": "integer", "const": 60 })),
        );
    }
    headers.into()
}

const WINDOW: &str = "X-RateLimit-Window";

fn headers_of<V: Documented, S>(status: u16, route: &Route<S>) -> Vec<&'static str> {
    let holds = |header: &Header| match header.on {
        On::Every => true,
        On::Failure => status >= 400,
        On::Idempotent => route.idempotent,
        On::Engaged => route.idempotent && !matches!(status, 401 | 403),
    };
    let own = V::headers();
    let mut headers: Vec<_> = own.iter().filter(|header| holds(header)).map(|header| header.name).collect();
    if status == 401 {
        headers.push("WWW-Authenticate");
    }
    if may_say_when(status) {
        headers.push("Retry-After");
    }
    let keyed = route.access != Access::Public;
    if keyed && (V::RATE_LIMIT_HEADERS.sent == Sent::Always || status < 300 || status == 429) {
        headers.extend(["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]);
        headers.extend(V::RATE_LIMIT_HEADERS.window.then_some(WINDOW));
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

/// Adds an example to a body without one.
fn exemplify(body: &mut Value, schemas: &Map<String, Value>) {
    let Some(content) = body.get_mut("content").and_then(Value::as_object_mut) else { return };
    for media in content.values_mut() {
        if media.get("example").is_none() && media.get("examples").is_none() {
            media["example"] = schema::example(&media["schema"], schemas);
        }
    }
}
