//! A stub of another party's server. It responds as the test decides, and records its requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::receiver::{Received, read};

/// The stub, on a free port. It runs until the process ends.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Received>>>,
}

/// The reaction to a request.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// Responds with this status and body.
    This(u16, &'static str),
    /// Keeps the connection open without a response.
    Nothing,
    /// Closes the connection.
    Goodbye,
}

impl Stub {
    /// Starts a stub that decides the reaction to each request. Requests are numbered from 0.
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

    /// Returns the URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Returns all received requests, in order.
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
