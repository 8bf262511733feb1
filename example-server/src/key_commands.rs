//! The commands of operators for API keys: `keys create`, `list`, `revoke` and `rotate`.

use std::io::{self, Write};

use platform::api_key::Environment;
use platform::db::Database;
use platform::keys::{self, NewApiKey, Rotation};
use platform::{BoxError, webhooks};
use secrecy::{ExposeSecret, SecretString};

use crate::APIS;
use crate::options::{KeysCommand, KeysCreate, Options};

/// Carries out one of the commands.
///
/// # Errors
/// What was asked for cannot be had, or the database fails. The message is for the operator.
pub(crate) async fn run(
    options: &Options,
    database: &Database,
    command: &KeysCommand,
) -> Result<(), BoxError> {
    match command {
        KeysCommand::Create(asked) => create(options, database, asked).await,
        KeysCommand::List => list(database).await,
        KeysCommand::Revoke { id } => revoke(database, id).await,
        KeysCommand::Rotate(asked) => rotate(database, &asked.id, asked.environment()).await,
    }
}

/// Prints a new key, for the one time it is known, and nothing else on standard output: it may go into a file or a variable.
/// Its id, and the signing secret of an account that has one, go to standard error.
async fn create(options: &Options, database: &Database, asked: &KeysCreate) -> Result<(), BoxError> {
    let (account, environment) = (&asked.account, asked.environment());
    let mut secret = None;
    if asked.api.has_signing_secret {
        // First: a key that was made and not printed would be lost.
        secret = Some(webhooks::signing_secret(database, &options.sealer()?, account, environment).await?);
    }
    let new = NewApiKey { account, plan: asked.plan, permissions: &asked.permission, environment };
    let (id, key) = keys::create_key(database, asked.api, &new).await?;
    print(&key)?;
    let mut stderr = io::stderr();
    writeln!(stderr, "id of the key: {id}")?;
    if let Some(secret) = secret {
        writeln!(stderr, "secret that webhooks are signed with: {}", secret.expose_secret())?;
    }
    Ok(())
}

async fn list(database: &Database) -> Result<(), BoxError> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    for key in keys::list(database).await? {
        writeln!(stdout, "{key}")?;
    }
    Ok(stdout.flush()?)
}

async fn revoke(database: &Database, id: &str) -> Result<(), BoxError> {
    if !keys::revoke(database, id).await? {
        writeln!(io::stderr(), "key `{id}` was revoked before")?;
    }
    Ok(())
}

/// Prints the new key before the old one is revoked: a key that nobody has read must not replace one that works.
async fn rotate(database: &Database, id: &str, environment: Option<Environment>) -> Result<(), BoxError> {
    let name = keys::api_of(database, id).await?;
    let api = APIS.iter().find(|api| api.name == name);
    let api =
        api.ok_or_else(|| format!("key `{id}` is of the API `{name}`, which this version does not have"))?;
    let rotation = Rotation::begin(database, api, id, environment).await?;
    print(&rotation.key)?;
    let new = rotation.id.clone();
    rotation
        .commit()
        .await
        .map_err(|error| format!("`keys list` says whether {new} replaces {id}: {error}"))?;
    writeln!(io::stderr(), "id of the key: {new}")?;
    Ok(())
}

fn print(key: &SecretString) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", key.expose_secret())?;
    stdout.flush()
}
