//! The table of sessions.

use super::verifications::Owner;
use super::{of_list, to_list};
use crate::free_form::FreeForm;
use crate::session::Session;
use platform::db::columns::{named, time};
use platform::db::{Connection, dispatch, row};

/// Inserts a new session.
pub(crate) async fn insert(connection: Connection<'_>, session: &Session) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(
        "INSERT INTO txcloud_sessions
             (id, account, environment, document_type, country, checks, metadata, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&session.id)
    .bind(&session.account)
    .bind(session.environment.as_str())
    .bind(session.document_type.as_str())
    .bind(session.country.as_str())
    .bind(to_list(&session.checks))
    .bind(session.metadata.as_json())
    .bind(session.created_at.as_millisecond())
    .bind(session.expires_at.as_millisecond())
    .execute(c).await.map(drop))
}

/// Loads a session of this owner. A session of another owner is treated as missing.
pub(crate) async fn load(
    connection: Connection<'_>,
    owner: Owner<'_>,
    id: &str,
) -> sqlx::Result<Option<Session>> {
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(
        "SELECT id, account, document_type, country, checks, metadata, created_at, expires_at FROM txcloud_sessions
         WHERE id = $1 AND account = $2 AND environment = $3",
    ).bind(id).bind(owner.account).bind(owner.environment.as_str()).fetch_optional(c).await)?;
    row.map(|row| row.into_session(owner)).transpose()
}

row! {
    #[derive(Debug)]
    struct Row {
        id: String,
        account: String,
        document_type: String,
        country: String,
        checks: String,
        metadata: String,
        created_at: i64,
        expires_at: i64,
    }
}

impl Row {
    fn into_session(self, owner: Owner<'_>) -> sqlx::Result<Session> {
        Ok(Session {
            id: self.id,
            account: self.account,
            environment: owner.environment,
            document_type: named(&self.document_type)?,
            country: named(&self.country)?,
            checks: of_list(&self.checks)?,
            metadata: FreeForm::kept(self.metadata),
            created_at: time(self.created_at)?,
            expires_at: time(self.expires_at)?,
        })
    }
}
