//! The `OpenAPI` documents, generated from the routes: one for each API, and one that combines all
//! APIs.
//!
//! An operation's doc comment becomes its summary (first paragraph) and its description. Its
//! annotation has only what is specific to the operation. The parts that operations share follow
//! from the flags of the [`Route`] (`operation.rs`), with the texts of the vendor ([`Documented`]):
//!
//! ```ignore
//! /// Returns a thing.
//! ///
//! /// A longer description.
//! #[utoipa::path(get, path = "/things/{id}", operation_id = "getThing", tag = "Things",
//!     params(("page" = Option<u32>, Query, minimum = 1, description = "Which page")),  // `{id}` needs none
//!     request_body = ThingRequest,                                                     // if it has one
//!     responses(
//!         (status = 200, description = "The thing", body = Envelope<Entity<Thing>>), // `Envelope<Vec<…>, Paginated>`: a page
//!         (status = 422, description = "thing_is_broken thing_is_late"),             // from 400: the codes, nothing else
//!     ))]
//! ```
//!
//! Structs derive [`utoipa::ToSchema`]. Every leaf that is not an enum has an example
//! (`#[schema(example = "…")]`); the examples of bodies are composed of these. A field that is
//! always present and may be `null` has `#[schema(required)]`. A field that may be absent and is
//! never `null` has `#[schema(nullable = false)]`. Every error code has an entry in the vendor's
//! [`CODES`](Documented::CODES). The schemas of generic structs and of plain values are inlined.

mod documented;
mod operation;
mod schema;
mod serve;
mod whole;

use serde_json::{Map, Value, json};

use crate::route::Route;

pub use documented::{Body, Documented, Failures, Header, Implied, On};
pub use serve::routes;

/// The document of one API.
#[derive(Debug)]
pub struct ApiDocument {
    /// The API's name on the command line.
    pub name: &'static str,
    /// The API's display name.
    pub title: &'static str,
    pub content: Value,
}

/// Returns one document that combines all of these.
pub fn whole(documents: &[ApiDocument]) -> Value {
    whole::of(documents)
}

/// Returns the document of these routes.
pub fn document<V: Documented, S>(routes: &[Route<S>]) -> ApiDocument {
    let schemas =
        schema::named(routes.iter().flat_map(|route| route.described.schemas.clone()).chain(V::schemas()));
    let mut paths = Map::new();
    for route in routes {
        for (path, item) in &route.described.paths.paths {
            let mut item = serde_json::to_value(item).expect("a path serialises");
            for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
                schema::write_out(operation, &schemas);
                schema::refer(operation, &schemas);
                operation::complete::<V, _>(operation, route, &schemas);
            }
            let methods = paths.entry(format!("{}{path}", V::PREFIX)).or_insert_with(|| json!({}));
            methods
                .as_object_mut()
                .expect("it is an object")
                .extend(item.as_object().cloned().unwrap_or_default());
        }
    }
    let (format, description_of_key) = V::KEY;
    let content = json!({
        "openapi": "3.1.0",
        "info": info(&format!("{} API", V::TITLE), &description::<V>()),
        "servers": servers(V::SERVERS),
        "tags": V::TAGS.iter().map(|(name, text)| json!({ "name": name, "description": text })).collect::<Value>(),
        "security": [{ V::NAME: [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { V::NAME: {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": format,
                "description": format!("An API key of {}: {description_of_key}", V::TITLE),
            }},
            "headers": operation::headers::<V>(),
            "parameters": operation::parameters::<V>(),
            "schemas": schema::referred(&paths.clone().into(), &schemas),
        },
    });
    ApiDocument { name: V::NAME, title: V::TITLE, content }
}

fn info(title: &str, description: &str) -> Value {
    json!({
        "title": title,
        "version": env!("CARGO_PKG_VERSION"),
        "description": description,
        "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
    })
}

fn servers(servers: &[(&str, &str)]) -> Value {
    servers.iter().map(|(url, text)| json!({ "url": url, "description": text })).collect()
}

fn description<V: Documented>() -> String {
    let codes: Vec<_> = V::CODES.iter().map(|(code, meaning)| format!("| `{code}` | {meaning} |")).collect();
    format!(
        "{}\n<details><summary>All error codes</summary>\n\n| code | meaning |\n|---|---|\n{}\n\n</details>\n",
        V::INTRODUCTION,
        codes.join("\n")
    )
}
