//! `load [--seconds N] [--rounds N] [--clients N] [--postgres|--sqlite] NAME=BINARY…` sends keyed `POST /v1/validate` to
//! builds of the example server in turns, on PostgreSQL and on SQLite, with one account and with sixteen, and prints what
//! each turn measured. Linux only: processor times are read from `/proc`.

mod client;
mod clock;
mod cpu;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fmt};

use private_postgres::Postgres;

use crate::report::{Report, Turn};
use crate::server::Server;

const ACCOUNTS: [usize; 2] = [1, 16];

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    seconds: u64,
    rounds: u32,
    clients: usize,
    databases: Vec<Kind>,
    /// By name.
    builds: Vec<(String, PathBuf)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Postgres,
    Sqlite,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        })
    }
}

fn main() -> ExitCode {
    match options(env::args().skip(1)) {
        Ok(options) => {
            for kind in &options.databases {
                measure(*kind, &options);
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seconds: 8, rounds: 3, clients: 64, databases: vec![], builds: vec![] };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value: Option<u32> = arguments.next().and_then(|value| value.parse().ok());
            value.ok_or_else(|| format!("{argument} takes a number"))
        };
        match argument.as_str() {
            "--seconds" => options.seconds = number()?.into(),
            "--rounds" => options.rounds = number()?,
            "--clients" => options.clients = number()? as usize,
            "--postgres" => options.databases.push(Kind::Postgres),
            "--sqlite" => options.databases.push(Kind::Sqlite),
            build => match build.split_once('=') {
                Some((name, path)) => options.builds.push((name.to_owned(), path.into())),
                None => return Err(format!("unknown argument {build}: a build is NAME=BINARY")),
            },
        }
    }
    if options.databases.is_empty() {
        options.databases = vec![Kind::Postgres, Kind::Sqlite];
    }
    if options.builds.is_empty() || options.seconds == 0 || options.rounds == 0 {
        return Err(
            "usage: load [--seconds N] [--rounds N] [--clients N] [--postgres|--sqlite] NAME=BINARY…".into(),
        );
    }
    Ok(options)
}

/// Starts each build on a database of its own, and measures them in turns.
fn measure(kind: Kind, options: &Options) {
    // With the durability that PostgreSQL has by default.
    let postgres = (kind == Kind::Postgres).then(Postgres::start);
    let folder = tempfile::tempdir().expect("the directory for temporary files takes one");
    let accounts = ACCOUNTS.into_iter().max().unwrap_or(1);
    let servers = options.builds.iter().map(|(name, binary)| {
        let database = match &postgres {
            Some(postgres) => postgres.fresh_database(),
            None => format!("sqlite://{}", folder.path().join(format!("{name}.db")).display()),
        };
        Server::start(binary, &database, folder.path(), accounts)
    });
    let servers: Vec<Server> = servers.collect();
    let mut report = Report::default();
    for _ in 0..options.rounds {
        for accounts in ACCOUNTS {
            for ((name, _), server) in options.builds.iter().zip(&servers) {
                let keys = &server.keys[..accounts];
                let load = client::Load { address: server.address, keys, clients: options.clients };
                let turn: Turn = load.run(Duration::from_secs(options.seconds), server.process());
                report.add(name, accounts, turn);
            }
        }
    }
    // If standard output is closed, nobody wants the table.
    let _ = report.print(&format!("{kind}, {} clients", options.clients));
}
