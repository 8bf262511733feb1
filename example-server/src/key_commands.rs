//! The commands of operators for API keys: `keys create`, `list`, `revoke` and `rotate`.

use std::error::Error;
use std::io::{self, Write};

use secrecy::{ExposeSecret, SecretString};

use crate::accounts::keys::{self, Rotation};
use crate::accounts::{Environment, create_key};
use crate::db::Database;
use crate::mintfax::Mintfax;
use crate::options::{Api, KeysCommand, KeysCreate, Options};
use crate::txcloud::Txcloud;
use crate::vendor::Vendor;
use crate::veriko::Veriko;
use crate::webhooks;

/// Carries out one of the commands.
///
/// # Errors
/// What was asked for cannot be had, or the database fails. The message is for the operator.
pub(crate) async fn run(
    options: &Options,
    database: &Database,
    command: &KeysCommand,
) -> Result<(), Box<dyn Error>> {
    match command {
        KeysCommand::Create(asked) => create(options, database, asked).await,
        KeysCommand::List => list(database).await,
        KeysCommand::Revoke { id } => revoke(database, id).await,
        KeysCommand::Rotate(asked) => {
            let (id, environment) = (&asked.id, asked.environment());
            match keys::api_of(database, id).await? {
                api if api == Veriko::NAME => rotate::<Veriko>(database, id, environment).await,
                api if api == Mintfax::NAME => rotate::<Mintfax>(database, id, environment).await,
                api if api == Txcloud::NAME => rotate::<Txcloud>(database, id, environment).await,
                api => {
                    Err(format!("key `{id}` is of the API `{api}`, which this version does not have").into())
                }
            }
        }
    }
}

/// Prints a new key, for the one time it is known, and nothing else on standard output: it may go into a file or a variable.
/// Its id, and the signing secret of an account that has one, go to standard error.
async fn create(options: &Options, database: &Database, asked: &KeysCreate) -> Result<(), Box<dyn Error>> {
    let mut secret = None;
    if asked.api != Api::Veriko {
        let (account, environment) = (&asked.account, asked.environment());
        // First: a key that was made and not printed would be lost.
        secret = Some(webhooks::signing_secret(database, &options.sealer()?, account, environment).await?);
    }
    let (id, key) = match asked.api {
        Api::Veriko => create_key::<Veriko>(database, asked).await?,
        Api::Mintfax => create_key::<Mintfax>(database, asked).await?,
        Api::Txcloud => create_key::<Txcloud>(database, asked).await?,
    };
    print(&key)?;
    let mut stderr = io::stderr();
    writeln!(stderr, "id of the key: {id}")?;
    if let Some(secret) = secret {
        writeln!(stderr, "secret that webhooks are signed with: {}", secret.expose_secret())?;
    }
    Ok(())
}

async fn list(database: &Database) -> Result<(), Box<dyn Error>> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    for key in keys::list(database).await? {
        writeln!(stdout, "{key}")?;
    }
    Ok(stdout.flush()?)
}

async fn revoke(database: &Database, id: &str) -> Result<(), Box<dyn Error>> {
    if !keys::revoke(database, id).await? {
        writeln!(io::stderr(), "key `{id}` was revoked before")?;
    }
    Ok(())
}

/// Prints the new key before the old one is revoked: a key that nobody has read must not replace one that works.
async fn rotate<V: Vendor>(
    database: &Database,
    id: &str,
    environment: Option<Environment>,
) -> Result<(), Box<dyn Error>> {
    let rotation = Rotation::begin::<V>(database, id, environment).await?;
    print(&rotation.key)?;
    let new = rotation.id.clone();
    rotation
        .commit()
        .await
        .map_err(|fault| format!("`keys list` says whether {new} replaces {id}: {fault}"))?;
    writeln!(io::stderr(), "id of the key: {new}")?;
    Ok(())
}

fn print(key: &SecretString) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", key.expose_secret())?;
    stdout.flush()
}
