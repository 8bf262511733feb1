//! What the server promises, asked of the real binary over a real socket.

mod operations;
mod starting;
mod txcloud;
mod veriko;
