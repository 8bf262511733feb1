//! Clients that send one request after the other, each on a connection that it keeps.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::now;
use crate::cpu::Cpu;
use crate::report::Turn;

const BODY: &str = r#"{"fecha":"2025-03-15","monto":15000.5,"clave_rastreo":"MXBA20250315001234","referencia_numerica":"1234567","emisor":"BANCO NACIONAL DE MEXICO","receptor":"BBVA MEXICO","cuenta_beneficiaria":"012180004412345678"}"#;
const WARM_UP: Duration = Duration::from_secs(2);

/// Who sends what to whom.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    /// One for each account. Client 1 has the first, client 2 the second, and so on.
    pub(crate) keys: &'a [String],
    pub(crate) clients: usize,
}

impl Load<'_> {
    /// Sends requests for so long, after some that are not counted.
    pub(crate) fn run(&self, time: Duration, server: u32) -> Turn {
        let (counts, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients)
                .map(|client| {
                    let key = &self.keys[client % self.keys.len()];
                    let (counts, stop) = (&counts, &stop);
                    scope.spawn(move || run_client(self.address, key, counts, stop))
                })
                .collect();
            thread::sleep(WARM_UP);
            let (begun, before) = (now(), Cpu::now(server));
            counts.store(true, Ordering::Relaxed);
            thread::sleep(time);
            counts.store(false, Ordering::Relaxed);
            let (took, cpu) = (begun.elapsed(), Cpu::now(server) - before);
            stop.store(true, Ordering::Relaxed);
            let mut latencies = Vec::new();
            for client in clients {
                latencies.extend(client.join().expect("a client does not panic"));
            }
            latencies.sort_unstable();
            Turn { took, latencies, cpu }
        })
    }
}

/// Returns how long each request took that ended while they were counted.
fn run_client(address: SocketAddr, key: &str, counts: &AtomicBool, stop: &AtomicBool) -> Vec<Duration> {
    /// So that each request of this process has an idempotency key of its own.
    static NEXT: AtomicU64 = AtomicU64::new(0);

    let mut connection = BufReader::new(TcpStream::connect(address).expect("the server accepts"));
    connection.get_ref().set_nodelay(true).expect("a socket has the option");
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let request = format!(
            "POST /v1/validate HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
             Idempotency-Key: load-{}-{number}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
            std::process::id(),
            BODY.len(),
        );
        let sent = now();
        connection.get_mut().write_all(request.as_bytes()).expect("the server reads");
        let (status, body) = read_response(&mut connection);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        if counts.load(Ordering::Relaxed) {
            latencies.push(sent.elapsed());
        }
    }
    latencies
}

fn read_response(connection: &mut impl BufRead) -> (u16, Vec<u8>) {
    let mut line = String::new();
    let mut next = |connection: &mut dyn BufRead| {
        line.clear();
        connection.read_line(&mut line).expect("the server answers");
        line.trim_end().to_ascii_lowercase()
    };
    let status = next(connection).split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut length = 0;
    loop {
        let header = next(connection);
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length is a number");
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).expect("the server answers to the end");
    (status, body)
}
