//! The idempotency layer's rejections as failures of this API.

use http::StatusCode;
use idempotency_layer::{Rejection, RejectionKind};

use super::errors::Failure;

/// Converts a rejection: status and code are the contract's, the sentences are this API's.
pub(super) fn failure(rejection: &Rejection) -> Failure {
    let (english, spanish) = match rejection.kind() {
        RejectionKind::KeyInvalid(_) => (
            "The Idempotency-Key is not valid: send it once, 1 to 255 characters of A-Z a-z 0-9 _ -.",
            "La Idempotency-Key no es válida: envíala una vez, de 1 a 255 caracteres de A-Z a-z 0-9 _ -.",
        ),
        RejectionKind::KeyReused => (
            "This Idempotency-Key was used for a different request.",
            "Esta Idempotency-Key se usó para una petición distinta.",
        ),
        RejectionKind::InProgress => (
            "A request with this Idempotency-Key is still being processed.",
            "Una petición con esta Idempotency-Key sigue en proceso.",
        ),
        RejectionKind::Tombstone(_) => (
            "A request with this Idempotency-Key was started, and its response cannot be repeated.",
            "Una petición con esta Idempotency-Key ya comenzó y su respuesta no se puede repetir.",
        ),
        RejectionKind::StoreUnavailable => (
            "Idempotency is not available at the moment; nothing was done.",
            "La idempotencia no está disponible por el momento; no se hizo nada.",
        ),
        RejectionKind::NotRecorded => (
            "The response could not be recorded: retry with the same Idempotency-Key to learn the outcome.",
            "No se pudo registrar la respuesta: reintenta con la misma Idempotency-Key para conocer el resultado.",
        ),
        RejectionKind::RolledBack => (
            "The request could not be committed; nothing was done.",
            "No se pudo confirmar la petición; no se hizo nada.",
        ),
        RejectionKind::CommitUnknown => (
            "It is not known whether the request was carried out.",
            "No se sabe si la petición se llevó a cabo.",
        ),
        RejectionKind::BodyTooLarge { .. } => return Failure::body_too_large(),
        RejectionKind::BodyUnreadable => {
            return rejection
                .source()
                .map_or_else(Failure::body_unreadable, |error| Failure::of_unreadable_body(error));
        }
        _ => return Failure::of_status(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let mut failure = Failure::new(rejection.status(), rejection.code(), english, spanish);
    failure.retry_after_seconds = rejection.retry_after_seconds();
    failure
}
