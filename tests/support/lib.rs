//! What the tests of this package have in common: the server as a process, and a client that sends exactly what it is
//! told, broken requests included.
#![allow(clippy::missing_panics_doc, reason = "a helper of tests panics where a test fails")]

/// The examples of the first page a newcomer reads.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

mod banxico;
mod clock;
mod document;
mod environment;
mod form;
mod http;
mod python;
mod receiver;
mod server;
mod statements;
mod stub;

pub use banxico::{Banxico, SpeiPayment, Standing, Step, Trouble};
pub use clock::{eventually, eventually_within};
pub use environment::{of_no_package, prepared};
pub use form::Form;
pub use http::{Connection, Request, Response};
pub use python::{PythonTest, Running, python_test};
pub use receiver::{Reaction, Received, Receiver};
pub use server::{Launch, Server, Stopped, launch, launch_with_file_limit};
pub use statements::Statements;
pub use stub::{Says, Stub};

/// The public demo key of this digit: `1` pro, `2` basic, `3` free, `4` read-only.
pub fn demo_key(digit: char) -> String {
    format!("mxcep_{}", digit.to_string().repeat(64))
}
