//! Errors of pictures of receipts.

use http::StatusCode;

use super::{Failure, FieldError};
use crate::ocr::{PictureError, RecogniseError};
use platform::outbound::{OutboundError, UrlError};

impl Failure {
    /// Receipts cannot be read, at all or at the moment. The cause is logged but not shown.
    pub(crate) fn ocr_unavailable(error: &RecogniseError) -> Self {
        tracing::error!(%error, "could not read a receipt");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ocr_unavailable",
            "Receipts cannot be read at the moment.",
            "Por el momento no se pueden leer comprobantes.",
        )
    }

    /// The validation has no picture, or its picture has expired.
    pub(crate) fn image_not_available() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "image_not_available",
            "There is no picture for this validation.",
            "La imagen no está disponible para esta validación.",
        )
    }

    /// The picture was not kept because the request asked for that.
    pub(crate) fn image_not_retained() -> Self {
        Self::new(
            StatusCode::GONE,
            "image_not_retained",
            "The picture was not kept, as the request asked.",
            "La imagen no se conservó, como pidió la petición.",
        )
    }

    /// The maximum number of pictures is in memory.
    pub(crate) fn ocr_busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ocr_unavailable",
            "Too many receipts are being read. Try again in a few seconds.",
            "Se están leyendo demasiados comprobantes. Vuelve a intentarlo en unos segundos.",
        )
        .retry_after(std::time::Duration::from_secs(2))
    }
}

impl FieldError {
    /// Both `image` and `image_url` are missing.
    pub(crate) fn image_or_image_url_required() -> Self {
        Self::of(
            "image",
            "image_or_image_url_required",
            "image or image_url is required.",
            "Se necesita image o image_url.",
        )
    }

    /// `image` is not valid base64.
    pub(crate) fn invalid_image() -> Self {
        Self::of(
            "image",
            "invalid_image",
            "image must be a picture in base64.",
            "image debe ser una imagen en base64.",
        )
    }

    /// The picture cannot be read.
    pub(crate) fn invalid_picture(field: &str, error: PictureError) -> Self {
        let (code, english, spanish) = match error {
            PictureError::TooLarge => {
                ("image_too_large", "The picture is larger than 12 MB.", "La imagen pesa más de 12 MB.")
            }
            PictureError::Format => (
                "invalid_image_format",
                "The picture must be a JPEG, a PNG or a WebP.",
                "La imagen debe ser JPEG, PNG o WebP.",
            ),
            PictureError::TooSmall => (
                "image_too_small",
                "The picture must have at least 32 by 32 pixels.",
                "La imagen debe tener al menos 32 por 32 píxeles.",
            ),
            PictureError::Dimensions => (
                "image_dimensions_too_large",
                "The sides of the picture must have at most 12000 pixels.",
                "Los lados de la imagen deben tener como máximo 12000 píxeles.",
            ),
            PictureError::Bomb => (
                "image_decompression_bomb",
                "The picture must have at most 40 million pixels.",
                "La imagen debe tener como máximo 40 millones de píxeles.",
            ),
            PictureError::Broken => ("invalid_image", "The picture is damaged.", "La imagen está dañada."),
        };
        Self::of(field, code, english, spanish)
    }

    /// `image_url` is not a URL.
    pub(crate) fn invalid_url() -> Self {
        Self::of(
            "image_url",
            "invalid_url",
            "image_url must be a URL of at most 2048 characters.",
            "image_url debe ser una URL de 2048 caracteres como máximo.",
        )
    }

    /// The file at `image_url` cannot be fetched.
    pub(crate) fn image_url(error: OutboundError) -> Self {
        let (code, english, spanish) = match error {
            OutboundError::Url(UrlError::TooLong | UrlError::Invalid) => return Self::invalid_url(),
            OutboundError::Url(UrlError::Scheme) => (
                "invalid_url_scheme",
                "image_url must begin with https.",
                "image_url debe empezar con https.",
            ),
            OutboundError::Url(UrlError::Blocked) => (
                "url_ssrf_blocked",
                "image_url must lead to a public address.",
                "image_url debe llevar a una dirección pública.",
            ),
            OutboundError::TooLarge => (
                "image_url_too_large",
                "The file at image_url is larger than 12 MB.",
                "Lo que hay en image_url pesa más de 12 MB.",
            ),
            OutboundError::UnknownHost | OutboundError::Unreachable | OutboundError::Timeout => (
                "image_url_unreachable",
                "The file at image_url could not be fetched.",
                "No se pudo descargar lo que hay en image_url.",
            ),
        };
        Self::of("image_url", code, english, spanish)
    }

    /// `retain_image` is neither true nor false.
    pub(crate) fn invalid_retain_image() -> Self {
        Self::of(
            "retain_image",
            "invalid_retain_image",
            "retain_image must be true or false.",
            "retain_image debe ser true o false.",
        )
    }

    /// Candidate accounts were sent: together with an account, which is contradictory, or alone,
    /// which this server does not support.
    pub(crate) fn candidates(with_account: bool) -> Self {
        let (code, english, spanish) = if with_account {
            (
                "cuenta_y_candidatas_excluyentes",
                "Send cuenta_beneficiaria or cuentas_candidatas, not both.",
                "Envía cuenta_beneficiaria o cuentas_candidatas, no ambas.",
            )
        } else {
            (
                "cuentas_candidatas_not_supported",
                "This server does not try several accounts: send cuenta_beneficiaria.",
                "Este servidor no prueba varias cuentas: envía cuenta_beneficiaria.",
            )
        };
        Self::of("cuentas_candidatas", code, english, spanish)
    }
}
