//! Support for the tests of this package: the server as a process, and a client that sends exactly
//! the given bytes, including broken requests.
#![allow(clippy::missing_panics_doc, reason = "a test helper panics to fail the test")]

/// The examples of the README.
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

/// Returns the public demo key of this digit: `1` pro, `2` basic, `3` free, `4` read-only.
pub fn demo_key(digit: char) -> String {
    format!("mxcep_{}", digit.to_string().repeat(64))
}
