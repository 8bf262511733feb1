//! The table of CEPs.

use uuid::Uuid;

use crate::cep::Cep;
use platform::db::{Connection, dispatch};

/// Inserts the CEP of a validation, in the transaction that makes it valid.
pub(super) async fn insert(connection: Connection<'_>, validation: Uuid, cep: &Cep) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query("INSERT INTO ceps (validation, xml) VALUES ($1, $2)")
        .bind(validation.to_string()).bind(&cep.xml()[..]).execute(c).await.map(drop))
}

/// Loads the XML of a validation's CEP.
pub(crate) async fn load(connection: Connection<'_>, validation: Uuid) -> sqlx::Result<Option<Vec<u8>>> {
    dispatch!(connection, c => sqlx::query_scalar("SELECT xml FROM ceps WHERE validation = $1")
        .bind(validation.to_string()).fetch_optional(c).await)
}
