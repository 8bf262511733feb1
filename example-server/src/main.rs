//! `cargo run --release -p example-server -- --demo`

use std::process::ExitCode;

use clap::Parser;
use example_server::Options;

#[tokio::main]
async fn main() -> ExitCode {
    match example_server::run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            example_server::report_error(&*error);
            ExitCode::FAILURE
        }
    }
}
