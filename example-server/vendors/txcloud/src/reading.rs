//! Strict parsing of request bodies.
//!
//! The first invalid field fails the request, and the error names it. Unknown fields are ignored. A
//! field that is `null` counts as missing.

mod sandbox_delay;

use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::Extension;
use axum::RequestExt;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use jiff::civil::Date;

use super::country::Country;
use super::envelope::Context;
use super::errors::Failure;
use super::free_form::FreeForm;
use super::money::{Currency, Money};
use super::user::User;
use platform::json::{self, FieldValue, Fields};

/// The default maximum length of a text, in characters.
pub(super) const TEXT: usize = 200;
/// The vendor's maximum size of an image.
const IMAGE_BYTES: usize = 10 * 1024 * 1024;

/// The body as it was sent. Extracting it waits for the [delay](sandbox_delay) that the body
/// requests.
#[derive(Debug)]
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Response;

    async fn from_request(mut request: Request, _: &S) -> Result<Self, Response> {
        let (Extension(context), Extension(user)): (Extension<Context>, Extension<User>) =
            request.extract_parts().await.map_err(IntoResponse::into_response)?;
        let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
            let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            let failure = if too_large {
                Failure::of_status(StatusCode::PAYLOAD_TOO_LARGE)
            } else {
                Failure::unreadable(Some(&rejection))
            };
            context.fail(&failure)
        })?;
        let delay = sandbox_delay::requested(user.environment(), &body);
        tokio::time::sleep(delay.map_err(|failure| context.fail(&failure))?).await;
        Ok(Self(body))
    }
}

/// The body, or an object within it.
#[derive(Debug)]
pub(super) struct Object<'a> {
    fields: Fields<'a>,
    /// The prefix of its fields' names in `param`: nothing, or for example `applicant.`.
    prefix: String,
}

impl<'a> Object<'a> {
    pub(super) fn body(body: &'a [u8]) -> Result<Self, Failure> {
        let fields = Fields::read(body)?;
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Failure::invalid_request("The request body is not a JSON object"));
        }
        Ok(Self { fields, prefix: String::new() })
    }

    pub(super) fn optional(&self, name: &str) -> Option<Field<'a>> {
        let json = self.fields.json(name)?;
        Some(Field { json, param: format!("{}{name}", self.prefix) })
    }

    pub(super) fn required(&self, name: &str) -> Result<Field<'a>, Failure> {
        self.optional(name).ok_or_else(|| Failure::missing(&format!("{}{name}", self.prefix)))
    }

    /// Parses an optional text.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.optional(name).map(|field| field.text(TEXT)).transpose()
    }
}

/// A field that was sent, and its name.
#[derive(Debug)]
pub(super) struct Field<'a> {
    json: &'a str,
    param: String,
}

impl<'a> Field<'a> {
    pub(super) fn object(self) -> Result<Object<'a>, Failure> {
        if !self.json.starts_with('{') {
            return Err(self.refused("must be an object"));
        }
        Ok(Object { fields: Fields::read(self.json.as_bytes())?, prefix: format!("{}.", self.param) })
    }

    /// Parses a text of 1 to `most` characters, not all of them white space.
    pub(super) fn text(&self, most: usize) -> Result<String, Failure> {
        let text = self.any_text()?;
        if text.trim().is_empty() || text.chars().count() > most || text.contains('\0') {
            return Err(self.refused(format!("must have 1 to {most} characters")));
        }
        Ok(text)
    }

    /// Parses a text that is one of an enum's values.
    pub(super) fn one_of<T: FromStr + ToString + Copy>(&self, all: &[T]) -> Result<T, Failure> {
        self.one_of_or(all, "invalid_parameter")
    }

    /// Parses a text that is one of an enum's values. Another text is refused with this code.
    pub(super) fn one_of_or<T: FromStr + ToString + Copy>(
        &self,
        all: &[T],
        code: &'static str,
    ) -> Result<T, Failure> {
        self.any_text()?.parse().map_err(|_| {
            let names: Vec<_> = all.iter().map(ToString::to_string).collect();
            Failure::invalid(&self.param, code, format!("{} must be one of {}", self.param, names.join(", ")))
        })
    }

    /// Parses a non-empty array of distinct values of an enum.
    pub(super) fn some_of<T: FromStr + ToString + Copy + PartialEq>(
        &self,
        all: &[T],
    ) -> Result<Vec<T>, Failure> {
        let mut some: Vec<T> = Vec::new();
        for field in self.elements(all.len())? {
            let one = field.one_of(all)?;
            if some.contains(&one) {
                return Err(field.refused("is a duplicate"));
            }
            some.push(one);
        }
        if some.is_empty() { Err(self.refused("must not be empty")) } else { Ok(some) }
    }

    /// Returns the elements of an array with at most `most` of them.
    pub(super) fn elements(&self, most: usize) -> Result<Vec<Field<'a>>, Failure> {
        let elements = json::elements(self.json).ok_or_else(|| self.refused("must be an array"))?;
        if elements.len() > most {
            return Err(self.refused(format!("must have at most {most} elements")));
        }
        let field = |(place, json)| Field { json, param: format!("{}[{place}]", self.param) };
        Ok(elements.into_iter().enumerate().map(field).collect())
    }

    pub(super) fn flag(&self) -> Result<bool, Failure> {
        match self.json {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.refused("must be true or false")),
        }
    }

    pub(super) fn integer(&self, range: RangeInclusive<u32>) -> Result<u32, Failure> {
        let integer = self.json.parse().ok().filter(|integer| range.contains(integer));
        integer.ok_or_else(|| {
            self.refused(format!("must be an integer from {} to {}", range.start(), range.end()))
        })
    }

    /// Parses a number from 0 to 1, rounded to ten-thousandths.
    pub(super) fn fraction(&self) -> Result<u16, Failure> {
        let fraction = platform::decimal::decimal(self.json).filter(|fraction| !fraction.is_sign_negative());
        let parts = fraction.and_then(|fraction| u16::try_from(fraction.checked_mul(PARTS)?.round()).ok());
        parts.filter(|parts| *parts <= 10_000).ok_or_else(|| self.refused("must be a number from 0 to 1"))
    }

    /// Parses a non-negative amount, with at most the decimals of the currency if it is known.
    pub(super) fn money(&self, currency: Option<Currency>) -> Result<Money, Failure> {
        Money::read(self.json, currency).ok_or_else(|| {
            self.refused(
                "must be a non-negative number of at most eleven digits and the decimals of its currency",
            )
        })
    }

    /// Parses an amount greater than zero.
    pub(super) fn money_above_zero(&self, currency: Option<Currency>) -> Result<Money, Failure> {
        let money = self.money(currency)?;
        if money == Money::ZERO { Err(self.refused("must be greater than 0")) } else { Ok(money) }
    }

    pub(super) fn currency(&self) -> Result<Currency, Failure> {
        self.any_text()?
            .parse()
            .map_err(|_| self.refused("must be an ISO 4217 currency code of three capital letters"))
    }

    pub(super) fn country(&self) -> Result<Country, Failure> {
        let text = self.any_text()?;
        text.parse().map_err(|_| {
            let message = format!("{} must be an ISO 3166-1 country code of two capital letters", self.param);
            Failure::invalid(&self.param, "unsupported_country", message)
        })
    }

    /// Parses a calendar date, `YYYY-MM-DD`. The library alone would also accept `20250315`.
    pub(super) fn date(&self) -> Result<Date, Failure> {
        let text = self.any_text()?;
        let dashes = text.len() == 10 && text.bytes().filter(|byte| *byte == b'-').count() == 2;
        let date = if dashes { text.parse().ok() } else { None };
        date.ok_or_else(|| self.refused("must be a date, YYYY-MM-DD"))
    }

    pub(super) fn timestamp(&self) -> Result<Timestamp, Failure> {
        self.any_text()?.parse().map_err(|_| self.refused("must be a time, YYYY-MM-DDThh:mm:ssZ"))
    }

    /// Decodes a base64 image.
    pub(super) fn image(&self) -> Result<Vec<u8>, Failure> {
        let refused =
            |why: &str| Failure::invalid(&self.param, "invalid_document", format!("{} {why}", self.param));
        let text = self.any_text()?;
        let image = BASE64_STANDARD.decode(text.as_bytes()).map_err(|_| refused("must be base64"))?;
        match image.len() {
            0 => Err(refused("must not be empty")),
            1..=IMAGE_BYTES => Ok(image),
            _ => Err(refused("must be at most 10 MB")),
        }
    }

    /// Parses a free-form object of the caller, which is stored and returned unchanged.
    pub(super) fn free_form(&self) -> Result<FreeForm, Failure> {
        if !self.json.starts_with('{') {
            return Err(self.refused("must be an object"));
        }
        FreeForm::read(self.json).ok_or_else(|| {
            let (members, bytes) = (FreeForm::MAX_MEMBERS, FreeForm::MAX_BYTES);
            self.refused(format!("must be an object of at most {members} members and {bytes} bytes of JSON"))
        })
    }

    pub(super) fn refused(&self, why: impl AsRef<str>) -> Failure {
        Failure::invalid_parameter(&self.param, why)
    }

    fn any_text(&self) -> Result<String, Failure> {
        match FieldValue::of(self.json)? {
            FieldValue::Text(text) => Ok(text),
            _ => Err(self.refused("must be a string")),
        }
    }
}

const PARTS: rust_decimal::Decimal = rust_decimal::Decimal::from_parts(10_000, 0, 0, false, 0);

#[cfg(test)]
mod tests;
