//! `POST /v1/validate-ocr`: validation of the payment on a receipt.

use std::time::Duration;

use axum::extract::RawQuery;
use axum::response::Response;

use super::api::{Api, Call};
use super::body::Raw;
use super::envelope::Envelope;
use super::errors::{Failure, FieldError};
use super::payment::{PictureRequest, Source};
use super::validate::{Mode, Query, answer, check_quota_and_policy, new_validation, run_or_enqueue};
use super::validation::{
    Entity, KeptImage, Kind, LinkedEntity, Ocr, QueuedAttributes, Validation, ValidationAttributes,
};
use super::validations::Poll;
use super::{described, images};
use crate::ocr::{self, Picture, RecogniseError};
use platform::bodies::BodyPermit;
use platform::clock;
use platform::db::RequestTransaction;
use platform::outbound::OutboundError;

/// The time-out for fetching a receipt.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Validates the payment on a receipt.
///
/// The receipt is a JPEG, PNG or WebP of at most 12 MB, with sides of 32 to 12000 pixels and at
/// most 40 million pixels. The payment that is read from it is validated as in `POST /v1/validate`;
/// fields that are sent replace those that are read. If required fields are missing, the request
/// fails with the codes of these fields. A request that fails is not charged.
///
/// The picture is stored encrypted for a limited time, unless `retain_image` is false.
///
/// With `?async=1`, the receipt is read first, the response is 202, and Banxico is queried in the
/// background.
#[utoipa::path(
    post, path = "/validate-ocr", operation_id = "validateOcr", tag = "Validations",
    request_body = described::PictureRequest,
    params(Query),
    responses(
        (status = 200, description = "The verdict", body = Envelope<LinkedEntity<ValidationAttributes>>),
        (status = 202, description = "The validation is in the queue", body = Envelope<Entity<QueuedAttributes>, Poll>,
         headers(("ETag" = String, description = "`W/\"0-queued\"`"),
                 ("Location" = String, description = "The path of the validation"))),
        (status = 422, description = "image_or_image_url_required invalid_image invalid_image_format image_too_large \
            image_too_small image_dimensions_too_large image_decompression_bomb invalid_url invalid_url_scheme \
            url_ssrf_blocked image_url_unreachable image_url_too_large invalid_retain_image required \
            clave_or_ref_required invalid_account_format invalid_account_length invalid_clabe_checksum \
            invalid_card_luhn invalid_bank_code intra_bank_no_cep invalid_field_type invalid_client_ref \
            retry_policy_invalid retry_pending_cap_exceeded cuentas_candidatas_not_supported \
            cuenta_y_candidatas_excluyentes"),
        (status = 429, description = "quota_exceeded"),
        (status = 503, description = "ocr_unavailable banxico_rate_limit_exhausted"),
    ),
)]
pub(super) async fn validate(
    Call { api, user, context }: Call,
    RawQuery(query): RawQuery,
    // Held as long as the body is in memory, even after the client has disconnected.
    _permit: BodyPermit,
    transaction: RequestTransaction,
    Raw(body): Raw,
) -> Response {
    let validation = async {
        let created_at = clock::timestamp();
        let request = PictureRequest::parse(&body, user.caps())?;
        drop(body);
        let policy = check_quota_and_policy(&api, &user, request.retry_policy.clone(), created_at).await?;
        let (field, picture) = match &request.source {
            Source::Sent(picture) => ("image", picture.clone()),
            Source::Url(url) => ("image_url", fetch(&api, url).await?),
        };
        let reading = match api.recogniser.read(picture.clone()).await {
            Ok(reading) => reading,
            Err(RecogniseError::Picture(error)) => {
                return Err(Failure::unprocessable(vec![FieldError::invalid_picture(field, error)]));
            }
            Err(error) => return Err(Failure::ocr_unavailable(&error)),
        };
        let read = ocr::Receipt::find(&reading.rows);
        let payment = request.payment(&read)?;
        let mut validation: Validation =
            new_validation(&user, Kind::Ocr, payment, request.client_ref.clone(), created_at);
        validation.ocr = Some(Ocr::of(&read, reading.confidence, &validation.payment));
        validation.image = Some(if request.retain {
            images::seal(&api, validation.id, picture).await?
        } else {
            KeptImage::NotRetained
        });
        run_or_enqueue(&api, &user, &transaction, validation, policy, Mode::asked_for(query.as_deref())).await
    };
    answer(&context, validation.await)
}

async fn fetch(api: &Api, url: &str) -> Result<Picture, Failure> {
    let to_failure = |error| Failure::unprocessable(vec![FieldError::image_url(error)]);
    let url = api.pictures.check(url).map_err(|error| to_failure(OutboundError::Url(error)))?;
    let fetched = api.pictures.get(&url, Picture::MAX_BYTES, FETCH_TIMEOUT).await.map_err(to_failure)?;
    if !fetched.status.is_success() {
        return Err(to_failure(OutboundError::Unreachable));
    }
    Picture::check(fetched.body)
        .map_err(|error| Failure::unprocessable(vec![FieldError::invalid_picture("image_url", error)]))
}
