//! The operator's commands for API keys: `keys create`, `list`, `revoke` and `rotate`.

use std::io::{self, Write};

use platform::api_key::Environment;
use platform::db::Database;
use platform::keys::{self, NewApiKey, Rotation};
use platform::{BoxError, webhooks};
use secrecy::{ExposeSecret, SecretString};

use crate::APIS;
use crate::options::{KeysCommand, KeysCreate, Options};

/// Runs one of the commands.
///
/// # Errors
/// If the arguments are refused or the database fails. The message is meant for the operator.
pub(crate) async fn run(
    options: &Options,
    database: &Database,
    command: &KeysCommand,
) -> Result<(), BoxError> {
    match command {
        KeysCommand::Create(arguments) => create(options, database, arguments).await,
        KeysCommand::List => list(database).await,
        KeysCommand::Revoke { id } => revoke(database, id).await,
        KeysCommand::Rotate(arguments) => rotate(database, &arguments.id, arguments.environment()).await,
    }
}

/// Creates a key and prints it, once. Standard output receives only the key, so that it can be
/// redirected to a file or a variable. The key's id, and the signing secret of an account that has
/// one, go to standard error.
async fn create(options: &Options, database: &Database, arguments: &KeysCreate) -> Result<(), BoxError> {
    let (account, environment) = (&arguments.account, arguments.environment());
    let mut secret = None;
    if arguments.api.has_signing_secret {
        // Load the secret first: if that failed after the key was created, the key would be lost.
        secret = Some(webhooks::signing_secret(database, &options.sealer()?, account, environment).await?);
    }
    let new = NewApiKey { account, plan: arguments.plan, permissions: &arguments.permission, environment };
    let (id, key) = keys::create_key(database, arguments.api, &new).await?;
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
        writeln!(io::stderr(), "key `{id}` was already revoked")?;
    }
    Ok(())
}

/// Replaces a key. Prints the new key before the old one is revoked: if printing fails, the old key
/// keeps working.
async fn rotate(database: &Database, id: &str, environment: Option<Environment>) -> Result<(), BoxError> {
    let name = keys::api_of(database, id).await?;
    let api = APIS.iter().find(|api| api.name == name);
    let api = api
        .ok_or_else(|| format!("key `{id}` belongs to the API `{name}`, which this version does not have"))?;
    let rotation = Rotation::begin(database, api, id, environment).await?;
    print(&rotation.key)?;
    let new = rotation.id.clone();
    rotation
        .commit()
        .await
        .map_err(|error| format!("cannot confirm that {new} replaced {id}, see `keys list`: {error}"))?;
    writeln!(io::stderr(), "id of the key: {new}")?;
    Ok(())
}

fn print(key: &SecretString) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", key.expose_secret())?;
    stdout.flush()
}
