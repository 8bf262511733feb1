//! A simulation of Banxico's site of CEPs: a form, cookies, pages in Spanish, and files.
//!
//! It is based on what the public client `cepmex` sends and reads, and on the responses that were
//! recorded with it. A test checks that this client can read it. Two details are made up, because
//! the real site's behaviour is unknown: the response to a visit without a payment, and that an
//! empty field matches nothing.

mod pages;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The simulated site. It stops when dropped.
#[derive(Debug)]
pub struct Banxico {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A payment known to the site.
#[derive(Debug, Clone)]
pub struct SpeiPayment {
    /// The date, `dd-mm-YYYY`.
    pub fecha: String,
    /// The tracking key.
    pub clave_rastreo: String,
    /// The sender's reference.
    pub referencia: String,
    /// The SPEI code of the sending bank.
    pub emisor: String,
    /// The SPEI code of the receiving bank.
    pub receptor: String,
    /// The receiving account.
    pub cuenta: String,
    /// The amount in cents.
    pub cents: u64,
    /// The purpose.
    pub concepto: String,
    /// What the site has about it.
    pub standing: Standing,
}

/// What the site has about a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The CEP.
    Cep,
    /// No CEP, only that the payment exists and is in this state.
    Identified(&'static str),
}

/// One of the two steps of fetching a CEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `valida.do`
    Form,
    /// `descarga.do`
    File,
}

/// A fault of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Reports that the client made too many requests.
    RateLimited,
    /// Responds with this status.
    Status(u16),
    /// Responds only once the fault is cleared.
    Hangs,
    /// Closes the connection without a response.
    HangsUp,
    /// Sends something that is neither a page nor a file.
    Garbage,
    /// Sends more than a client should read.
    Endless,
    /// Redirects to another site.
    Redirects,
    /// Sends the page in Latin-1.
    Latin1,
    /// Sends the file of another payment.
    AnotherPayment,
    /// Has lost the client's session.
    LostSession,
}

impl Banxico {
    /// Starts the site on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it has one");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.closed.load(Ordering::Acquire) {
                    return;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.answer(stream));
            }
        });
        Self { address, shared }
    }

    /// Returns the base URL of the pages.
    pub fn base_url(&self) -> String {
        format!("http://{}/cep", self.address)
    }

    /// Adds a payment.
    pub fn know(&self, payment: SpeiPayment) {
        self.shared.state().payments.push(payment);
    }

    /// Sets or clears the fault of a step.
    pub fn trouble(&self, step: Step, trouble: Option<Trouble>) {
        let mut state = self.shared.state();
        match trouble {
            Some(trouble) => drop(state.troubles.insert(step == Step::File, trouble)),
            None => drop(state.troubles.remove(&(step == Step::File))),
        }
        self.shared.changed.notify_all();
    }

    /// Returns the received forms, oldest first.
    pub fn forms(&self) -> Vec<HashMap<String, String>> {
        self.shared.state().forms.clone()
    }

    /// Returns how many files were requested.
    pub fn files_asked_for(&self) -> u64 {
        self.shared.files.load(Ordering::Acquire)
    }
}

impl SpeiPayment {
    /// Returns the file of the CEP, byte for byte as the site sends it.
    pub fn xml(&self) -> Vec<u8> {
        pages::xml(self)
    }
}

impl Drop for Banxico {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.state().troubles.clear();
        self.shared.changed.notify_all();
        // Unblocks the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    closed: AtomicBool,
    files: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    payments: Vec<SpeiPayment>,
    /// The key tells whether the step is the file.
    troubles: HashMap<bool, Trouble>,
    forms: Vec<HashMap<String, String>>,
    /// The payment of each session.
    sessions: HashMap<String, SpeiPayment>,
}

struct Request {
    method: String,
    path: String,
    cookies: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    media_type: &'static str,
    headers: String,
    body: Vec<u8>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut stream: TcpStream) {
        let Some(request) = read(&mut stream) else { return };
        let answer = match (request.method.as_str(), request.path.split_once('?')) {
            ("POST", None) if request.path == "/cep/valida.do" => self.form(&request),
            ("GET", Some(("/cep/descarga.do", query))) => {
                self.files.fetch_add(1, Ordering::AcqRel);
                self.file(&request, query)
            }
            _ => Some(Answer::page(404, pages::error("No existe"))),
        };
        let Some(Answer { status, media_type, headers, body }) = answer else { return };
        let head = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: {media_type}\r\nContent-Language: es-MX\r\nContent-Length: {}\r\n\
             {headers}Connection: close\r\n\r\n",
            body.len()
        );
        // The client may have closed the connection.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }

    /// Handles the form. Returns `None` to close the connection.
    fn form(&self, request: &Request) -> Option<Answer> {
        let form = fields(&String::from_utf8_lossy(&request.body));
        let visit = {
            let mut state = self.state();
            state.forms.push(form.clone());
            state.forms.len()
        };
        let trouble = self.wait_out(Step::Form);
        if let Some(answer) = fault_response(trouble)? {
            return Some(answer);
        }
        let mut state = self.state();
        let (page, found) = match state.payments.iter().find(|payment| payment.fits(&form)) {
            Some(payment) => match payment.standing {
                Standing::Cep => (pages::found(), Some(payment.clone())),
                Standing::Identified(standing) => (pages::identified(payment, standing), None),
            },
            None if state.payments.iter().any(|payment| form.get("fecha") == Some(&payment.fecha)) => {
                (pages::no_order(), None)
            }
            None => (pages::no_payment(), None),
        };
        // The real site sets more than one cookie: one for the session, one for the machine behind
        // the load balancer.
        let id = format!("s{visit}!-1");
        if let Some(payment) = found {
            state.sessions.insert(id.clone(), payment);
        }
        let mut answer = Answer::page(200, page);
        if trouble == Some(Trouble::Latin1) {
            let text = String::from_utf8(answer.body).expect("pages are text");
            answer.body = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        }
        answer.headers = format!(
            "Set-Cookie: JSESSIONID={id}; path=/; HttpOnly\r\nSet-Cookie: TS012f422b={id}; Path=/; \r\n"
        );
        Some(answer)
    }

    /// Handles the request for a file. Returns `None` to close the connection.
    fn file(&self, request: &Request, query: &str) -> Option<Answer> {
        let trouble = self.wait_out(Step::File);
        if let Some(answer) = fault_response(trouble)? {
            return Some(answer);
        }
        let state = self.state();
        let cookie =
            |name: &str| request.cookies.iter().find(|(given, _)| given == name).map(|(_, value)| value);
        let session = cookie("JSESSIONID").filter(|id| Some(*id) == cookie("TS012f422b"));
        let payment = match trouble {
            Some(Trouble::LostSession) => None,
            Some(Trouble::AnotherPayment) => {
                let mine = session.and_then(|id| state.sessions.get(id))?;
                state.payments.iter().find(|other| other.clave_rastreo != mine.clave_rastreo)
            }
            _ => session.and_then(|id| state.sessions.get(id)),
        };
        let Some(payment) = payment else {
            return Some(Answer::page(200, pages::error("Su sesión ha expirado")));
        };
        let (media_type, extension, body) = match fields(query).get("formato").map(String::as_str) {
            Some("XML") => ("application/xml", "xml", pages::xml(payment)),
            Some("PDF") => ("application/pdf", "pdf", b"%PDF-1.5\n%%EOF\n".to_vec()),
            // An empty archive: no test opens it.
            Some("ZIP") => ("application/zip", "zip", [b"PK\x05\x06".as_slice(), &[0; 18]].concat()),
            _ => return Some(Answer::page(200, pages::error("Formato no válido"))),
        };
        let headers = format!(
            "Content-Disposition: attachment; filename=CEP-{}.{extension}\r\n",
            payment.clave_rastreo.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
        );
        Some(Answer { status: 200, media_type, headers, body })
    }

    /// Returns the fault of the step, after waiting while it is [`Trouble::Hangs`].
    fn wait_out(&self, step: Step) -> Option<Trouble> {
        let mut state = self.state();
        loop {
            let trouble = state.troubles.get(&(step == Step::File)).copied();
            if trouble != Some(Trouble::Hangs) {
                return trouble;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Returns the response of a fault, or `Some(None)` if there is none. `None`: close the connection.
#[allow(clippy::option_option, reason = "no response, no fault, or this response")]
fn fault_response(trouble: Option<Trouble>) -> Option<Option<Answer>> {
    Some(Some(match trouble {
        Some(Trouble::RateLimited) => Answer::page(200, pages::too_often()),
        Some(Trouble::Status(status)) => Answer::page(status, pages::error("Error interno")),
        Some(Trouble::HangsUp) => return None,
        Some(Trouble::Garbage) => Answer {
            media_type: "application/octet-stream",
            ..Answer::page(200, "\u{0}<\u{1}&><!--".repeat(99))
        },
        Some(Trouble::Endless) => Answer::page(200, " ".repeat(8 * 1024 * 1024)),
        Some(Trouble::Redirects) => Answer {
            headers: "Location: http://localhost:9/cep/valida.do\r\n".to_owned(),
            ..Answer::page(307, String::new())
        },
        _ => return Some(None),
    }))
}

impl Answer {
    fn page(status: u16, page: String) -> Self {
        let body = page.into_bytes();
        Self { status, media_type: "text/html; charset=UTF-8", headers: String::new(), body }
    }
}

impl SpeiPayment {
    /// Checks whether the form matches the payment. Every field counts, and an empty one matches
    /// nothing.
    fn fits(&self, form: &HashMap<String, String>) -> bool {
        let is = |name: &str, value: &str| form.get(name).is_some_and(|given| given == value);
        let criterion = match form.get("tipoCriterio").map(String::as_str) {
            Some("T") => &self.clave_rastreo,
            Some("R") => &self.referencia,
            _ => return false,
        };
        is("criterio", criterion)
            && is("captcha", "c")
            && is("tipoConsulta", "1")
            && is("receptorParticipante", "0")
            && is("fecha", &self.fecha)
            && is("emisor", &self.emisor)
            && is("receptor", &self.receptor)
            && is("cuenta", &self.cuenta)
            && form.get("monto").and_then(|monto| cents(monto)) == Some(self.cents)
    }
}

/// Parses an amount in pesos: `3414.9` is 341490.
fn cents(pesos: &str) -> Option<u64> {
    let (whole, fraction) = pesos.split_once('.').unwrap_or((pesos, ""));
    let fraction = format!("{fraction:0<2}");
    (fraction.len() == 2).then_some(())?;
    Some(whole.parse::<u64>().ok()? * 100 + fraction.parse::<u64>().ok()?)
}

/// Parses the fields of a form or a query.
fn fields(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| char::from(digit.unwrap_or(b'0')));
                u8::from_str_radix(&String::from_iter(digits), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut cookies, mut length) = (Vec::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "cookie" => {
                let pairs = value.split("; ").filter_map(|pair| pair.split_once('='));
                cookies.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, cookies, body })
}
