//! Errors of single fields, and of the filters of a query.

use std::borrow::Cow;

use http::StatusCode;

use super::{Failure, FieldError, Text};
use crate::cep::AccountError;

impl Failure {
    /// Creates a 422 with all the errors of a request. There must be at least one.
    pub fn unprocessable(errors: Vec<FieldError>) -> Self {
        debug_assert!(!errors.is_empty(), "a failure needs at least one error");
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            errors,
            violations: None,
            retry_after_seconds: None,
            limit: None,
            event: None,
        }
    }
}

impl FieldError {
    /// The field is missing.
    pub fn required(field: &str) -> Self {
        Self::of(
            field,
            "required",
            format!("{field} is required."),
            format!("El campo {field} es obligatorio."),
        )
    }

    /// Both the tracking key and the reference are missing.
    pub fn clave_or_ref_required() -> Self {
        Self::of(
            "clave_rastreo",
            "clave_or_ref_required",
            "clave_rastreo or referencia_numerica is required.",
            "Se necesita clave_rastreo o referencia_numerica.",
        )
    }

    /// `fecha` is not a date.
    pub fn invalid_date() -> Self {
        Self::of(
            "fecha",
            "invalid_date",
            "fecha must be a calendar date, as YYYY-MM-DD.",
            "fecha debe ser un día del calendario, como AAAA-MM-DD.",
        )
    }

    /// `monto` is not a valid amount.
    pub fn invalid_amount() -> Self {
        Self::of(
            "monto",
            "invalid_amount",
            "monto must be greater than 0 and at most 999999999999.99, with at most two decimals.",
            "monto debe ser mayor que 0 y como máximo 999999999999.99, con hasta dos decimales.",
        )
    }

    /// `cuenta_beneficiaria` is not a valid account.
    pub fn invalid_account(error: AccountError) -> Self {
        let (code, english, spanish) = match error {
            AccountError::Format => (
                "invalid_account_format",
                "cuenta_beneficiaria may contain only digits, spaces and hyphens.",
                "cuenta_beneficiaria solo admite dígitos, espacios y guiones.",
            ),
            AccountError::Length => (
                "invalid_account_length",
                "cuenta_beneficiaria must have 10, 16 or 18 digits.",
                "cuenta_beneficiaria debe tener 10, 16 o 18 dígitos.",
            ),
            AccountError::ClabeChecksum => (
                "invalid_clabe_checksum",
                "The check digit of the CLABE is wrong.",
                "El dígito de control de la CLABE no coincide.",
            ),
            AccountError::CardLuhn => (
                "invalid_card_luhn",
                "The check digit of the card number is wrong.",
                "El dígito de control de la tarjeta no coincide.",
            ),
        };
        Self::of("cuenta_beneficiaria", code, english, spanish)
    }

    /// `emisor` or `receptor` is not a bank in the catalogue.
    pub fn invalid_bank_code(field: &str) -> Self {
        Self::of(
            field,
            "invalid_bank_code",
            format!("{field} must be the name or the SPEI code of a bank."),
            format!("{field} debe ser el nombre o la clave SPEI de un banco."),
        )
    }

    /// Both banks are the same. A transfer within a bank is not a SPEI transfer.
    pub fn intra_bank_no_cep() -> Self {
        Self::of(
            "receptor",
            "intra_bank_no_cep",
            "The sending and the receiving bank are the same: a transfer within a bank has no CEP.",
            "El banco emisor y el receptor son el mismo: una transferencia interna no tiene CEP.",
        )
    }

    /// The field has the wrong type or form.
    pub fn invalid_field_type(field: &str, wanted: FieldForm) -> Self {
        let (english, spanish) = match wanted {
            FieldForm::Text => ("text", "texto"),
            FieldForm::TrackingKey => {
                (r"text of 1 to 30 characters, without < > or \", r"texto de 1 a 30 caracteres, sin < > ni \")
            }
            FieldForm::Reference => ("text of 1 to 7 digits", "texto de 1 a 7 dígitos"),
        };
        Self::of(
            field,
            "invalid_field_type",
            format!("{field} must be {english}."),
            format!("{field} debe ser {spanish}."),
        )
    }

    /// `receptor_participante` is neither 0 nor 1.
    pub fn invalid_receptor_participante() -> Self {
        Self::of(
            "receptor_participante",
            "invalid_receptor_participante",
            "receptor_participante must be 0 or 1.",
            "receptor_participante debe ser 0 o 1.",
        )
    }

    /// `client_ref` is not valid.
    pub fn invalid_client_ref() -> Self {
        Self::of(
            "client_ref",
            "invalid_client_ref",
            "client_ref must be text of 1 to 64 characters, without control characters or emoji.",
            "client_ref debe ser texto de 1 a 64 caracteres, sin caracteres de control ni emoji.",
        )
    }

    /// A query parameter is not valid. It is not a field of the body, so the error has no pointer.
    pub fn invalid_filter(parameter: &str, english: &str, spanish: &str) -> Self {
        Self {
            code: "invalid_filter",
            detail: Text {
                english: format!("{parameter} must be {english}.").into(),
                spanish: format!("{parameter} debe ser {spanish}.").into(),
            },
            pointer: None,
        }
    }

    pub(super) fn of(
        field: &str,
        code: &'static str,
        english: impl Into<Cow<'static, str>>,
        spanish: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            detail: Text { english: english.into(), spanish: spanish.into() },
            pointer: Some(format!("/data/attributes/{field}")),
        }
    }
}

/// The form that a text field must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldForm {
    /// Any text.
    Text,
    /// [`TrackingKey`](crate::cep::TrackingKey)
    TrackingKey,
    /// [`Reference`](crate::cep::Reference)
    Reference,
}
