//! The `OpenAPI` document, made of the routes that are served, and what shows it.
//!
//! How an operation is described: its doc comment is summary (first paragraph) and description; the annotation says what
//! is its own, and nothing of what operations have in common, which the flags of its [`Route`] imply ([`operation`]):
//!
//! ```ignore
//! /// Asks for one thing.
//! ///
//! /// How, in as many sentences as it takes.
//! #[utoipa::path(get, path = "/things/{id}", operation_id = "getThing", tag = "Things",
//!     params(("page" = Option<u32>, Query, minimum = 1, description = "Which page")),  // `{id}` needs none
//!     request_body = ThingRequest,                                                     // if it has one
//!     responses(
//!         (status = 200, description = "The thing", body = Document<Entity<Thing>>), // `Document<Vec<…>, Paginated>`: a page
//!         (status = 422, description = "thing_is_broken thing_is_late"),             // from 400: the codes, nothing else
//!     ))]
//! ```
//!
//! Structs derive [`utoipa::ToSchema`]; a leaf that is no enum has an example (`#[schema(example = "…")]`), of which the
//! examples of whole bodies are made. A field that is always there and can be `null` says `#[schema(required)]`; one that
//! is left out, and never `null`, `#[schema(nullable = false)]`. A code has its line in
//! [`CODES`](crate::veriko::CODES). Generic structs, and those of a single plain value, are written out where they are used.

mod errors;
mod operation;
mod schema;
mod serve;

use serde_json::{Map, Value, json};

use crate::route::Route;
use crate::veriko;

pub(crate) use serve::routes;

/// What the paths of the routes are below.
const PREFIX: &str = "/v1";

/// The document of these routes.
pub(crate) fn document<S>(routes: &[Route<S>]) -> Value {
    let schemas = schema::named(
        routes.iter().flat_map(|route| route.described.schemas.clone()).chain(veriko::shared_schemas()),
    );
    let mut paths = Map::new();
    for route in routes {
        for (path, item) in &route.described.paths.paths {
            let mut item = serde_json::to_value(item).expect("a path serialises");
            for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
                schema::write_out(operation, &schemas);
                schema::refer(operation, &schemas);
                operation::complete(operation, route, &schemas);
            }
            let methods = paths.entry(format!("{PREFIX}{path}")).or_insert_with(|| json!({}));
            methods
                .as_object_mut()
                .expect("it was made one")
                .extend(item.as_object().cloned().unwrap_or_default());
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Veriko API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": description(),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This server" }],
        "tags": tags(),
        "security": [{ "bearer": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "mxcep_<64 hex>",
                "description": "An API key: `mxcep_` or `veriko_` and 64 hexadecimal digits. Of a server started with \
                                `--demo`, `mxcep_` and 64 times `1` is one.",
            }},
            "headers": operation::headers(),
            "parameters": operation::parameters(),
            "schemas": schema::referred(&paths.clone().into(), &schemas),
        },
    })
}

fn description() -> String {
    let codes: Vec<_> =
        veriko::CODES.iter().map(|(code, meaning)| format!("| `{code}` | {meaning} |")).collect();
    format!("{INTRODUCTION}\n| code | what it means |\n|---|---|\n{}\n\n</details>\n", codes.join("\n"))
}

const INTRODUCTION: &str = include_str!("openapi/introduction.md");

fn tags() -> Value {
    json!([
        { "name": "Validations", "description": "Whether a SPEI payment arrived, by its CEP, and retries until it did." },
        { "name": "Users", "description": "The account, and what it has set for all of its validations." },
        { "name": "Webhooks", "description": "Being told, instead of asking." },
        { "name": "Usage", "description": "What the plan grants, and what of it is used." },
        { "name": "Banxico Status", "description": "How Banxico's site does." },
        { "name": "Public", "description": "What needs no key." },
    ])
}

#[cfg(test)]
mod tests;
