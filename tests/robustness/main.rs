//! How the server behaves when its log, disk or database file fails, or when clients ask for too
//! much.

mod backup;
mod database_file;
mod limits;
mod log;
mod permissions;
mod readiness;
mod starting;

use std::path::Path;

use support::{Response, Server, demo_key};

/// Returns the URL of a database in this folder.
fn database_in(folder: &Path) -> String {
    format!("sqlite://{}/test.db", folder.display())
}

/// Validates a payment, which writes to every part of the database.
fn pay(server: &Server, key: &str) -> Response {
    let payment = serde_json::json!({"fecha": "2025-03-15", "monto": 1500.50, "clave_rastreo": "MXBA2025",
        "cuenta_beneficiaria": "012180004412345678"});
    server.post("/v1/validate").bearer(&demo_key('1')).key(key).json(payment).send()
}
