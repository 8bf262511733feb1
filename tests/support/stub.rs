//! A server of somebody else, which says what a test has it say, and keeps what it is asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::receiver::{Received, read};

/// The server, on a free port; it is gone with the process.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Received>>>,
}

/// What it does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// Answers with this status and body.
    This(u16, &'static str),
    /// Says nothing for as long as somebody listens.
    Nothing,
    /// Hangs up.
    Goodbye,
}

impl Stub {
    /// One that says this to each request, the first of which has the number 0.
    pub fn saying(says: impl Fn(usize, &Received) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (asked, says) = (Arc::<Mutex<Vec<Received>>>::default(), Arc::new(says));
        let shared = Arc::clone(&asked);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (asked, says) = (Arc::clone(&shared), Arc::clone(&says));
                thread::spawn(move || serve(connection, &asked, &*says));
            }
        });
        Self { address, asked }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// All that it was asked, in its order.
    pub fn asked(&self) -> Vec<Received> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(mut connection: TcpStream, all: &Mutex<Vec<Received>>, says: &dyn Fn(usize, &Received) -> Says) {
    let Some(asked) = read(&mut connection) else { return };
    let number = {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(asked.clone());
        all.len() - 1
    };
    match says(number, &asked) {
        Says::This(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = connection.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        }
        Says::Nothing => drop(connection.read(&mut [0])),
        Says::Goodbye => {}
    }
}
