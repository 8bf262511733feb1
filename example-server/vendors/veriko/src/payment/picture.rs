//! The body of `POST /v1/validate-ocr`: a receipt and the fields sent with it, or all the errors in
//! them.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{account, client_ref, ok_or_collect, restore, retry_policy};
use crate::cep::{Account, Bank, Payment};
use crate::client_ref::ClientRef;
use crate::errors::{Failure, FieldError};
use crate::model::{Caps, RetryPolicy};
use crate::ocr::{Picture, PictureError, Receipt};
use platform::json::{FieldValue, Fields};

/// A request for a validation by a receipt.
#[derive(Debug)]
pub(crate) struct PictureRequest {
    pub(crate) source: Source,
    account: Option<Account>,
    emisor: Option<&'static Bank>,
    receptor: Option<&'static Bank>,
    pub(crate) client_ref: Option<ClientRef>,
    pub(crate) retry_policy: Option<RetryPolicy>,
    /// Whether to keep the picture.
    pub(crate) retain: bool,
}

/// The source of the receipt.
#[derive(Debug)]
pub(crate) enum Source {
    Sent(Picture),
    /// The URL to fetch it from.
    Url(String),
}

impl PictureRequest {
    /// Parses a request. If both `image` and `image_url` are sent, `image_url` is used.
    ///
    /// # Errors
    /// 400 if the body is empty or not JSON; otherwise 422 with every error.
    pub(crate) fn parse(body: &[u8], caps: &Caps) -> Result<Self, Failure> {
        let fields = Fields::read(body)?;
        let mut errors = Vec::new();
        let source = ok_or_collect(source(&fields)?, &mut errors);
        let account = ok_or_collect(account(fields.get("cuenta_beneficiaria")?), &mut errors);
        if fields.json("cuentas_candidatas").is_some() {
            errors.push(FieldError::candidates(account.as_ref().is_some_and(Option::is_some)));
        }
        let emisor = ok_or_collect(bank(&fields, "banco_emisor")?, &mut errors);
        let receptor = ok_or_collect(bank(&fields, "banco_receptor")?, &mut errors);
        let (retry_policy, violations) = retry_policy(&fields, caps, &mut errors)?;
        let client_ref = ok_or_collect(client_ref(fields.get("client_ref")?), &mut errors);
        let retain = fields.json("retain_image").unwrap_or("true");
        if !matches!(retain, "true" | "false") {
            errors.push(FieldError::invalid_retain_image());
        }
        match (source, account, emisor, receptor, client_ref) {
            (Some(source), Some(account), Some(emisor), Some(receptor), Some(client_ref))
                if errors.is_empty() =>
            {
                Ok(Self {
                    source,
                    account,
                    emisor,
                    receptor,
                    client_ref,
                    retry_policy,
                    retain: retain == "true",
                })
            }
            _ => Err(Failure { violations, ..Failure::unprocessable(errors) }),
        }
    }

    /// Returns the payment on the receipt. Fields that were sent replace those that were read.
    ///
    /// # Errors
    /// 422 with the errors that the same payment would have in `POST /v1/validate`, usually because
    /// fields could not be read.
    pub(crate) fn payment(&self, receipt: &Receipt) -> Result<Payment, Failure> {
        let code = |sent: Option<&'static Bank>, read: Option<&'static Bank>| {
            sent.or(read).map(|bank| bank.spei_code)
        };
        let fields: Map<String, Value> = [
            ("fecha", json!(receipt.fecha)),
            ("monto", json!(receipt.monto)),
            ("clave_rastreo", json!(receipt.clave_rastreo)),
            ("referencia_numerica", json!(receipt.referencia_numerica)),
            ("cuenta_beneficiaria", json!(self.account.as_ref().or(receipt.cuenta_beneficiaria.as_ref()))),
            ("emisor", json!(code(self.emisor, receipt.emisor))),
            ("receptor", json!(code(self.receptor, receipt.receptor))),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        restore(&Value::from(fields).to_string())
    }
}

fn source(fields: &Fields<'_>) -> Result<Result<Source, FieldError>, Failure> {
    Ok(match (fields.get("image_url")?.filled(), fields.get("image")?.filled()) {
        (FieldValue::Text(url), _) => Ok(Source::Url(url)),
        (FieldValue::Missing, FieldValue::Text(image)) => decode(&image)
            .and_then(|bytes| {
                Picture::check(bytes).map_err(|error| FieldError::invalid_picture("image", error))
            })
            .map(Source::Sent),
        (FieldValue::Missing, FieldValue::Missing) => Err(FieldError::image_or_image_url_required()),
        (FieldValue::Missing, _) => Err(FieldError::invalid_image()),
        _ => Err(FieldError::invalid_url()),
    })
}

/// Decodes base64, with or without the `data:…;base64,` prefix that browsers add.
fn decode(text: &str) -> Result<Bytes, FieldError> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let text = text.trim();
    let encoded = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").ok_or_else(FieldError::invalid_image)?.1,
        None => text,
    };
    // Check the length before allocating the memory.
    if encoded.len() / 4 * 3 > Picture::MAX_BYTES + 3 {
        return Err(FieldError::invalid_picture("image", PictureError::TooLarge));
    }
    LENIENT.decode(encoded).map(Bytes::from).map_err(|_| FieldError::invalid_image())
}

/// Parses the SPEI code of a bank, which replaces the bank that was read. A value that is not a
/// code of 4 or 5 digits is ignored.
fn bank(fields: &Fields<'_>, name: &str) -> Result<Result<Option<&'static Bank>, FieldError>, Failure> {
    let text = match fields.get(name)?.filled() {
        FieldValue::Text(text) => text.trim().to_owned(),
        FieldValue::Number(literal) => literal.to_owned(),
        FieldValue::Missing | FieldValue::Other => return Ok(Ok(None)),
    };
    let is_code = matches!(text.len(), 4 | 5) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_code {
        return Ok(Ok(None));
    }
    Ok(Bank::find(&text).map(Some).ok_or_else(|| FieldError::invalid_bank_code(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    fn parse(body: &Value) -> Result<PictureRequest, Vec<&'static str>> {
        let caps = load("").unwrap().terms(platform::account::AccountPlan::Basic).caps.clone();
        PictureRequest::parse(body.to_string().as_bytes(), &caps)
            .map_err(|failure| failure.errors.iter().map(|error| error.code).collect())
    }

    #[test]
    fn each_error_in_a_receipt_has_its_code() {
        let url = "https://example.com/receipt.png";
        let pdf = base64::prelude::BASE64_STANDARD.encode(b"%PDF-1.7");
        for (body, codes) in [
            (json!({}), &["image_or_image_url_required"][..]),
            (json!({"image": "", "image_url": null}), &["image_or_image_url_required"]),
            (json!({"image": 5}), &["invalid_image"]),
            (json!({"image": "¿?"}), &["invalid_image"]),
            (json!({"image": "data:image/png,AAAA"}), &["invalid_image"]),
            (json!({"image": pdf}), &["invalid_image_format"]),
            (json!({"image": "A".repeat(Picture::MAX_BYTES / 3 * 4 + 8)}), &["image_too_large"]),
            (json!({"image_url": 5}), &["invalid_url"]),
            (json!({"image_url": url, "retain_image": "no"}), &["invalid_retain_image"]),
            (json!({"image_url": url, "cuentas_candidatas": []}), &["cuentas_candidatas_not_supported"]),
            (
                json!({"image_url": url, "cuentas_candidatas": [], "cuenta_beneficiaria": "5512345678"}),
                &["cuenta_y_candidatas_excluyentes"],
            ),
            (json!({"image_url": url, "banco_emisor": "99999"}), &["invalid_bank_code"]),
            (
                json!({"cuenta_beneficiaria": "1", "client_ref": "", "retry_policy": {}}),
                &[
                    "image_or_image_url_required",
                    "invalid_account_length",
                    "retry_policy_invalid",
                    "invalid_client_ref",
                ],
            ),
        ] {
            assert_eq!(
                parse(&body).unwrap_err(),
                codes,
                "{}",
                &body.to_string()[..body.to_string().len().min(99)]
            );
        }
    }

    #[test]
    fn sent_fields_replace_the_fields_that_were_read() {
        let rows = [
            "Fecha 15/03/2025",
            "Monto $15,000.50",
            "Clave de rastreo MXBA20250315001234",
            "Banco emisor BANAMEX",
        ];
        let receipt = Receipt::find(&rows.map(str::to_owned));
        let url = "https://example.com/receipt.png";
        let request =
            parse(&json!({"image_url": url, "banco_emisor": "BBVA", "retain_image": false})).unwrap();
        assert!(!request.retain && matches!(&request.source, Source::Url(given) if given == url));
        let payment = request.payment(&receipt).unwrap();
        assert_eq!(payment.sending_bank().map(|bank| bank.spei_code), Some("40002"), "a name is ignored");

        let sent = json!({"image_url": url, "banco_emisor": "40012", "cuenta_beneficiaria": "5512345678"});
        let payment = parse(&sent).unwrap().payment(&receipt).unwrap();
        assert_eq!(payment.sending_bank().map(|bank| bank.spei_code), Some("40012"));
        assert_eq!(payment.cuenta_beneficiaria().map(Account::digits), Some("5512345678"));
        assert_eq!(payment.monto().cents(), 1_500_050);
    }

    #[test]
    fn a_receipt_without_required_fields_fails_like_such_a_payment() {
        let request = parse(&json!({"image_url": "https://example.com/"})).unwrap();
        let failure = request.payment(&Receipt::default()).unwrap_err();
        let codes: Vec<_> = failure.errors.iter().map(|error| error.code).collect();
        assert_eq!(
            (failure.status.as_u16(), &codes[..]),
            (422, &["required", "required", "clave_or_ref_required"][..])
        );
    }
}
