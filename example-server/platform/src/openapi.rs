//! The `OpenAPI` documents, made of the routes that are served, and what shows them: one for each API, and one that holds all.
//!
//! How an operation is described: its doc comment is summary (first paragraph) and description; the annotation says what
//! is its own, and nothing of what operations have in common, which the flags of its [`Route`] imply (`operation.rs`) in the
//! words of its vendor ([`Documented`]):
//!
//! ```ignore
//! /// Asks for one thing.
//! ///
//! /// How, in as many sentences as it takes.
//! #[utoipa::path(get, path = "/things/{id}", operation_id = "getThing", tag = "Things",
//!     params(("page" = Option<u32>, Query, minimum = 1, description = "Which page")),  // `{id}` needs none
//!     request_body = ThingRequest,                                                     // if it has one
//!     responses(
//!         (status = 200, description = "The thing", body = Envelope<Entity<Thing>>), // `Envelope<Vec<…>, Paginated>`: a page
//!         (status = 422, description = "thing_is_broken thing_is_late"),             // from 400: the codes, nothing else
//!     ))]
//! ```
//!
//! Structs derive [`utoipa::ToSchema`]; a leaf that is no enum has an example (`#[schema(example = "…")]`), of which the
//! examples of whole bodies are made. A field that is always there and can be `null` says `#[schema(required)]`; one that
//! is left out, and never `null`, `#[schema(nullable = false)]`. A code has its line in the vendor's
//! [`CODES`](Documented::CODES). Generic structs, and those of a single plain value, are written out where they are used.

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
    /// The API's name, as the command line has it.
    pub name: &'static str,
    /// The same for people.
    pub title: &'static str,
    pub content: Value,
}

/// Returns one document that holds all of these.
pub fn whole(documents: &[ApiDocument]) -> Value {
    whole::of(documents)
}

/// The document of these routes.
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
                .expect("it was made one")
                .extend(item.as_object().cloned().unwrap_or_default());
        }
    }
    let (form, had) = V::KEY;
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
                "bearerFormat": form,
                "description": format!("An API key of {}: {had}", V::TITLE),
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
        "{}\n<details><summary>Every code of a failure</summary>\n\n| code | what it means |\n|---|---|\n{}\n\n</details>\n",
        V::INTRODUCTION,
        codes.join("\n")
    )
}
