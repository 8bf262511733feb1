//! What the server promises, asked of the real binary over a real socket.

mod keys;
mod mintfax;
mod operations;
mod reading;
mod signatures;
mod starting;
mod statements;
mod txcloud;
mod veriko;
