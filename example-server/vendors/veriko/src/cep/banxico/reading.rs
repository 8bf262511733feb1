//! What the site's answers say.

use std::borrow::Cow;
use std::time::Duration;

use super::FieldError;
use super::session::Page;
use crate::cep::payment::Payment;
use crate::cep::text::fold;
use crate::cep::{Answer, Cep, CepVerdict, charset};
use http::StatusCode;

/// What the answer to the form says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// There is nothing more to ask for.
    Answer(Answer),
    /// There is a file, or nothing that says there is none.
    File,
}

/// Reads the answer to the form.
pub(super) fn of_form(page: &Page) -> Result<Reading, FieldError> {
    let text = Text::of(&page.body);
    if page.status == StatusCode::TOO_MANY_REQUESTS || text.says(RATE_LIMITED) {
        return Ok(Reading::Answer(rate_limited(page.retry_after)));
    }
    if !page.status.is_success() {
        return Err(FieldError::Status(page.status, page.retry_after));
    }
    Ok(if text.says(WITHOUT_CEP) {
        let returned = RETURNED.iter().any(|state| text.says(&format!("{STATE}{state}")));
        Reading::Answer(if returned { CepVerdict::Returned } else { CepVerdict::CepUnavailable }.into())
    } else if NOT_FOUND.iter().any(|sentence| text.says(sentence)) {
        Reading::Answer(CepVerdict::NotFound.into())
    } else {
        Reading::File
    })
}

/// Reads the file. As a CEP first: what a payment is for is free text, and could be any sentence of the site.
pub(super) fn of_file(page: Page, payment: &Payment) -> Result<Answer, FieldError> {
    let Page { status, body, retry_after } = page;
    if status.is_success() {
        match Cep::parse(body.clone()) {
            Ok(cep) if cep.is_of(payment) => return Ok(cep.into()),
            Ok(_) => return Err(FieldError::AnotherPayment),
            Err(_) if Text::of(&body).says(RATE_LIMITED) => return Ok(rate_limited(retry_after)),
            Err(error) => return Err(error.into()),
        }
    }
    if status == StatusCode::TOO_MANY_REQUESTS || Text::of(&body).says(RATE_LIMITED) {
        return Ok(rate_limited(retry_after));
    }
    Err(FieldError::Status(status, retry_after))
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
/// The line of the table that says where a payment stands.
const STATE: &str = "Estado del pago en Banxico";
const RETURNED: [&str; 2] = ["Devuelto", "En proceso de devolución"];

/// The words of a page as they are compared: letters and digits, without accents, case or white space. Sentences are found
/// whatever the page puts around and between their words.
struct Text(String);

impl Text {
    fn of(page: &[u8]) -> Self {
        Self(fold(&entities(&visible(&charset::decode(page)))))
    }

    fn says(&self, sentence: &str) -> bool {
        self.0.contains(&fold(sentence))
    }
}

/// Without tags, and without what is not shown: the site keeps whole sentences in comments.
fn visible(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = if rest.starts_with("<!--") {
            "-->"
        } else if begins(rest, "<script") {
            "</script>"
        } else if begins(rest, "<style") {
            "</style>"
        } else {
            ">"
        };
        rest = find_ignoring_case(rest, end).map_or("", |at| &rest[at + end.len()..]);
    }
    text.push_str(rest);
    text
}

fn begins(text: &str, with: &str) -> bool {
    text.as_bytes().get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
}

fn find_ignoring_case(text: &str, what: &str) -> Option<usize> {
    text.as_bytes().windows(what.len()).position(|window| window.eq_ignore_ascii_case(what.as_bytes()))
}

/// The longest name or number of a character that is looked for, with the signs around it.
const LONGEST: usize = 12;

/// With the characters in place of their names and numbers, as far as Spanish needs them.
fn entities(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        decoded.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.bytes().take(LONGEST).position(|byte| byte == b';');
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

/// The character of this name or number. Letters lose their accents where they are compared, so only the letter counts.
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
