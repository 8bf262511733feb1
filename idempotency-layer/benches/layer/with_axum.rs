//! The layer is measured on axum, so without that feature the benchmark runs itself again with it.

use std::process::{Command, exit};

pub(crate) fn main() {
    println!("running again with the feature `axum`");
    // Cargo's `--bench` comes first, then the arguments of the user.
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let again = ["bench", "-p", "idempotency-layer", "--features", "axum", "--bench", "layer", "--"];
    let status = Command::new(env!("CARGO")).args(again).args(arguments).status();
    exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}
