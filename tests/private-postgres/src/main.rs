//! `private-postgres COMMAND…` runs the command with a server of its own in `TEST_POSTGRES_URL`; the server ends with
//! the command, and so does this, with its status. Without a command it says where PostgreSQL's programs are.

use std::env;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use private_postgres::{Postgres, SHARED, find};

fn main() -> ExitCode {
    let folder = match find() {
        Ok(folder) => folder,
        Err(not_found) => {
            eprintln!("{not_found}");
            return ExitCode::FAILURE;
        }
    };
    let mut arguments = env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        return ExitCode::from(u8::from(writeln!(io::stdout(), "{}", folder.display()).is_err()));
    };
    let postgres = Postgres::start_fast();
    match Command::new(&command).args(arguments).env(SHARED, postgres.url()).status() {
        // As a shell says it.
        Ok(status) => {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Err(error) => {
            eprintln!("{}: {error}", command.display());
            ExitCode::FAILURE
        }
    }
}
