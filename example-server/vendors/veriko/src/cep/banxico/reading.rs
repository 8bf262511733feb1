//! Interpretation of the site's answers.

use std::borrow::Cow;
use std::time::Duration;

use super::QueryError;
use super::session::Page;
use crate::cep::payment::Payment;
use crate::cep::text::fold;
use crate::cep::{Answer, Cep, CepVerdict, charset};
use http::StatusCode;

/// Interprets the answer to the form. `None` means that there may be a file: the page does not say
/// that there is none.
pub(super) fn of_form(page: &Page) -> Result<Option<Answer>, QueryError> {
    let text = Text::of(&page.body);
    if page.status == StatusCode::TOO_MANY_REQUESTS || text.contains(RATE_LIMITED) {
        return Ok(Some(rate_limited(page.retry_after)));
    }
    if !page.status.is_success() {
        return Err(QueryError::Status(page.status, page.retry_after));
    }
    Ok(if text.contains(WITHOUT_CEP) {
        let returned = RETURNED.iter().any(|state| text.contains(&format!("{STATE}{state}")));
        Some(if returned { CepVerdict::Returned } else { CepVerdict::CepUnavailable }.into())
    } else if NOT_FOUND.iter().any(|sentence| text.contains(sentence)) {
        Some(CepVerdict::NotFound.into())
    } else {
        None
    })
}

/// Interprets the file. It is parsed as a CEP first: the concept of a payment is free text, and
/// could contain any sentence of the site.
pub(super) fn of_file(page: Page, payment: &Payment) -> Result<Answer, QueryError> {
    let Page { status, body, retry_after } = page;
    if status.is_success() {
        match Cep::parse(body.clone()) {
            Ok(cep) if cep.is_of(payment) => return Ok(cep.into()),
            Ok(_) => return Err(QueryError::AnotherPayment),
            Err(_) if Text::of(&body).contains(RATE_LIMITED) => return Ok(rate_limited(retry_after)),
            Err(error) => return Err(error.into()),
        }
    }
    if status == StatusCode::TOO_MANY_REQUESTS || Text::of(&body).contains(RATE_LIMITED) {
        return Ok(rate_limited(retry_after));
    }
    Err(QueryError::Status(status, retry_after))
}

fn rate_limited(retry_after: Option<Duration>) -> Answer {
    Answer { retry_after, ..CepVerdict::RateLimited.into() }
}

const RATE_LIMITED: &str = "ha excedido el número máximo de consultas";
const WITHOUT_CEP: &str = "Con la información proporcionada se identificó el siguiente pago";
const NOT_FOUND: [&str; 2] = [
    "No se encontró ningún pago con la información proporcionada",
    "El SPEI no ha recibido una orden de pago que cumpla con el criterio de búsqueda especificado",
];
/// The label of the table row that holds the state of a payment.
const STATE: &str = "Estado del pago en Banxico";
const RETURNED: [&str; 2] = ["Devuelto", "En proceso de devolución"];

/// The text of a page, normalised for comparison: letters and digits, without accents, case or
/// white space. Sentences are found whatever markup surrounds and separates their words.
struct Text(String);

impl Text {
    fn of(page: &[u8]) -> Self {
        Self(fold(&decode_references(&visible_text(&charset::decode(page)))))
    }

    fn contains(&self, sentence: &str) -> bool {
        self.0.contains(&fold(sentence))
    }
}

/// Returns the page without tags and invisible text: the site has whole sentences in comments.
fn visible_text(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = if rest.starts_with("<!--") {
            "-->"
        } else if starts_with_ignoring_case(rest, "<script") {
            "</script>"
        } else if starts_with_ignoring_case(rest, "<style") {
            "</style>"
        } else {
            ">"
        };
        rest = find_ignoring_case(rest, end).map_or("", |at| &rest[at + end.len()..]);
    }
    text.push_str(rest);
    text
}

fn starts_with_ignoring_case(text: &str, with: &str) -> bool {
    text.as_bytes().get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
}

fn find_ignoring_case(text: &str, what: &str) -> Option<usize> {
    text.as_bytes().windows(what.len()).position(|window| window.eq_ignore_ascii_case(what.as_bytes()))
}

/// The maximum length of a character reference, with `&` and `;`.
const MAX_REFERENCE_LENGTH: usize = 12;

/// Decodes the character references that Spanish needs.
fn decode_references(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        decoded.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.bytes().take(MAX_REFERENCE_LENGTH).position(|byte| byte == b';');
        if let Some((end, character)) = end.and_then(|end| Some((end, character(&rest[1..end])?))) {
            decoded.push(character);
            rest = &rest[end + 1..];
        } else {
            decoded.push('&');
            rest = &rest[1..];
        }
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

/// Returns the character that a reference names. An accented letter is returned without its accent,
/// because the comparison ignores accents.
fn character(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => number.parse(),
        };
        return char::from_u32(code.ok()?);
    }
    let mut letters = name.chars();
    match (letters.next()?, letters.as_str()) {
        (letter, "acute" | "tilde" | "uml") if letter.is_ascii_alphabetic() => Some(letter),
        (_, _) if name == "nbsp" => Some(' '),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
