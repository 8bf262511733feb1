//! What the server promises, asked of the real binary over a real socket.

mod mintfax;
mod operations;
mod signatures;
mod starting;
mod statements;
mod txcloud;
mod veriko;
