//! The body of `POST /v1/validate`: a payment to verify, or all the errors in it.

mod picture;

use account_retry_policy::{RetryPolicyInput, Violations};
use jiff::civil::Date;

use super::client_ref::ClientRef;
use super::errors::{Failure, FieldError, FieldForm};
use super::model::{Caps, RetryPolicy};
use super::retry_policy::refusal;
use crate::cep::{Account, Amount, Party, Payment, Reference, TrackingKey, receiving_bank};
pub(super) use picture::{PictureRequest, Source};
use platform::json::{FieldValue, Fields};

/// A valid request for a validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// The payment to verify.
    pub payment: Payment,
    /// The client's own reference for the validation.
    pub client_ref: Option<ClientRef>,
    /// The policy of this validation only. `None` selects the account's policy.
    pub retry_policy: Option<RetryPolicy>,
}

impl PaymentRequest {
    /// Parses a request. `caps` are those of the caller's plan.
    ///
    /// | field | accepted | otherwise |
    /// |---|---|---|
    /// | `fecha` | an existing day, `YYYY-MM-DD` | `required`, `invalid_date` |
    /// | `monto` | [`Amount`], as a number or a string | `required`, `invalid_amount` |
    /// | `clave_rastreo` | [`TrackingKey`] | `invalid_field_type`; `clave_or_ref_required` if `referencia_numerica` is missing too |
    /// | `referencia_numerica` | [`Reference`] | `invalid_field_type` |
    /// | `cuenta_beneficiaria` | [`Account`] | `invalid_account_format`, `…_length`, `invalid_clabe_checksum`, `invalid_card_luhn` |
    /// | `emisor`, `receptor` | [`Party`] | `invalid_bank_code`; `intra_bank_no_cep` if both are the same |
    /// | `receptor_participante` | the numbers 0 and 1 | `invalid_receptor_participante` |
    /// | `retry_policy` | as in `PUT /v1/users/me/retry-policy` | `retry_policy_invalid`, one for each violation |
    /// | `cuentas_candidatas` | never | `cuenta_y_candidatas_excluyentes`, `cuentas_candidatas_not_supported` |
    /// | `client_ref` | [`ClientRef`] | `invalid_client_ref` |
    ///
    /// A text field that is `true`, `false`, an array or an object is `invalid_field_type`. A
    /// number is accepted as the text of its digits, except for an account, which would lose its
    /// leading zeros. `null` and empty text are treated as a missing field; for `client_ref`, empty
    /// text is an error. Other fields are ignored.
    ///
    /// # Errors
    /// 400 if the body is empty or not JSON; otherwise 422 with every error, in the order of the
    /// table.
    pub fn parse(body: &[u8], caps: &Caps) -> Result<Self, Failure> {
        let fields = Fields::read(body)?;
        let mut errors = Vec::new();
        let payment = payment(&fields, &mut errors)?;
        // Ignoring them would verify a payment to an account that the caller did not ask about.
        if fields.json("cuentas_candidatas").is_some() {
            errors.push(FieldError::candidates(fields.json("cuenta_beneficiaria").is_some()));
        }
        let (retry_policy, violations) = retry_policy(&fields, caps, &mut errors)?;
        let client_ref = ok_or_collect(client_ref(fields.get("client_ref")?), &mut errors);

        match (payment, client_ref) {
            (Some(payment), Some(client_ref)) if errors.is_empty() => {
                Ok(Self { payment, client_ref, retry_policy })
            }
            _ => Err(Failure { violations, ..Failure::unprocessable(errors) }),
        }
    }
}

/// Parses a stored payment, in the JSON that it serialises to.
///
/// # Errors
/// As for [`PaymentRequest::parse`], if it is not a stored payment.
pub fn restore(request_data: &str) -> Result<Payment, Failure> {
    let mut errors = Vec::new();
    let payment = payment(&Fields::read(request_data.as_bytes())?, &mut errors)?;
    payment.filter(|_| errors.is_empty()).ok_or_else(|| Failure::unprocessable(errors))
}

/// Parses the payment. The result is valid only if no error was added to `errors`.
fn payment(fields: &Fields<'_>, errors: &mut Vec<FieldError>) -> Result<Option<Payment>, Failure> {
    let fecha = ok_or_collect(fecha(fields.get("fecha")?), errors);
    let monto = ok_or_collect(monto(fields.get("monto")?), errors);

    let (key, reference) =
        (fields.get("clave_rastreo")?.filled(), fields.get("referencia_numerica")?.filled());
    if key == FieldValue::Missing && reference == FieldValue::Missing {
        errors.push(FieldError::clave_or_ref_required());
    }
    let key = text_field("clave_rastreo", key, |text| {
        TrackingKey::parse(text)
            .ok_or_else(|| FieldError::invalid_field_type("clave_rastreo", FieldForm::TrackingKey))
    });
    let clave_rastreo = ok_or_collect(key, errors);
    let reference = text_field("referencia_numerica", reference, |text| {
        Reference::parse(text)
            .ok_or_else(|| FieldError::invalid_field_type("referencia_numerica", FieldForm::Reference))
    });
    let referencia_numerica = ok_or_collect(reference, errors);

    let cuenta_beneficiaria = ok_or_collect(account(fields.get("cuenta_beneficiaria")?), errors);
    let party = |name| -> Result<_, Failure> {
        let read = |text: &str| Party::parse(text).ok_or_else(|| FieldError::invalid_bank_code(name));
        Ok(text_field(name, fields.get(name)?, read))
    };
    let emisor = ok_or_collect(party("emisor")?, errors);
    let receptor = ok_or_collect(party("receptor")?, errors);

    let receptor_participante =
        ok_or_collect(receptor_participante(&fields.get("receptor_participante")?), errors);
    let (Some(emisor), Some(receptor)) = (emisor, receptor) else { return Ok(None) };
    let account = cuenta_beneficiaria.as_ref().and_then(Option::as_ref);
    let receiving = receiving_bank(receptor.as_ref(), account);
    if receiving.is_some() && receiving == emisor.as_ref().map(Party::bank) {
        errors.push(FieldError::intra_bank_no_cep());
    }

    let (Some(fecha), Some(monto)) = (fecha, monto) else { return Ok(None) };
    let (
        Some(clave_rastreo),
        Some(referencia_numerica),
        Some(cuenta_beneficiaria),
        Some(receptor_participante),
    ) = (clave_rastreo, referencia_numerica, cuenta_beneficiaria, receptor_participante)
    else {
        return Ok(None);
    };
    Ok(Some(Payment {
        fecha,
        monto,
        clave_rastreo,
        referencia_numerica,
        emisor,
        receptor,
        cuenta_beneficiaria,
        receptor_participante,
    }))
}

fn fecha(given: FieldValue<'_>) -> Result<Date, FieldError> {
    match given.filled() {
        FieldValue::Missing => Err(FieldError::required("fecha")),
        FieldValue::Text(text) => day(&text).ok_or_else(FieldError::invalid_date),
        FieldValue::Number(_) => Err(FieldError::invalid_date()),
        FieldValue::Other => Err(FieldError::invalid_field_type("fecha", FieldForm::Text)),
    }
}

fn monto(given: FieldValue<'_>) -> Result<Amount, FieldError> {
    let read = match given.filled() {
        FieldValue::Missing => return Err(FieldError::required("monto")),
        FieldValue::Text(text) => Amount::from_text(text.trim()).ok(),
        FieldValue::Number(literal) => Amount::from_number(literal).ok(),
        FieldValue::Other => None,
    };
    read.ok_or_else(FieldError::invalid_amount)
}

fn account(given: FieldValue<'_>) -> Result<Option<Account>, FieldError> {
    match given.filled() {
        FieldValue::Missing => Ok(None),
        FieldValue::Text(text) => Account::parse(text.trim()).map(Some).map_err(FieldError::invalid_account),
        // As a number, a CLABE that begins with 00 would have the 16 digits of a card.
        FieldValue::Number(_) | FieldValue::Other => {
            Err(FieldError::invalid_field_type("cuenta_beneficiaria", FieldForm::Text))
        }
    }
}

fn receptor_participante(given: &FieldValue<'_>) -> Result<bool, FieldError> {
    match given {
        FieldValue::Missing | FieldValue::Number("0") => Ok(false),
        FieldValue::Number("1") => Ok(true),
        FieldValue::Number(_) | FieldValue::Text(_) | FieldValue::Other => {
            Err(FieldError::invalid_receptor_participante())
        }
    }
}

/// Parses the policy. Its violations are returned and also added to `errors`.
fn retry_policy(
    fields: &Fields<'_>,
    caps: &Caps,
    errors: &mut Vec<FieldError>,
) -> Result<(Option<RetryPolicy>, Option<Violations>), Failure> {
    let Some(json) = fields.json("retry_policy") else { return Ok((None, None)) };
    let input: RetryPolicyInput = serde_json::from_str(json).map_err(|_| Failure::invalid_json())?;
    match input.parse(caps) {
        Ok(policy) => Ok((Some(policy), None)),
        Err(found) => {
            let refusal = refusal(found);
            errors.extend(refusal.errors);
            Ok((None, refusal.violations))
        }
    }
}

fn client_ref(given: FieldValue<'_>) -> Result<Option<ClientRef>, FieldError> {
    match given {
        FieldValue::Missing => Ok(None),
        FieldValue::Text(text) => {
            ClientRef::parse(&text).map(Some).ok_or_else(FieldError::invalid_client_ref)
        }
        FieldValue::Number(_) | FieldValue::Other => Err(FieldError::invalid_client_ref()),
    }
}

/// Parses an optional field that also accepts a number, as its digits.
fn text_field<T>(
    name: &str,
    given: FieldValue<'_>,
    read: impl FnOnce(&str) -> Result<T, FieldError>,
) -> Result<Option<T>, FieldError> {
    match given.filled() {
        FieldValue::Missing => Ok(None),
        FieldValue::Text(text) => read(&text).map(Some),
        FieldValue::Number(literal) if literal.bytes().all(|byte| byte.is_ascii_digit()) => {
            read(literal).map(Some)
        }
        FieldValue::Number(_) | FieldValue::Other => {
            Err(FieldError::invalid_field_type(name, FieldForm::Text))
        }
    }
}

/// Parses a date in the only form that the API accepts. The library alone would accept `20250315`
/// too.
pub(super) fn day(text: &str) -> Option<Date> {
    let text = text.trim();
    let well_formed = text.len() == 10
        && text.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if well_formed { text.parse().ok() } else { None }
}

fn ok_or_collect<T>(read: Result<T, FieldError>, errors: &mut Vec<FieldError>) -> Option<T> {
    read.map_err(|error| errors.push(error)).ok()
}

#[cfg(test)]
mod tests;
