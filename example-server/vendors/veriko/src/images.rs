//! The pictures of receipts: storage, expiry and `GET /v1/validations/{id}/image`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::HeaderName;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::api::{Api, Call};
use super::errors::Failure;
use super::store::images;
use super::validation::KeptImage;
use super::validations::find;
use crate::ocr::Picture;
use platform::clock;
use platform::encryption::SealError;

/// The interval at which expired pictures are deleted, and the size of a batch.
const EXPIRY_INTERVAL: Duration = Duration::from_hours(1);
const EXPIRY_BATCH: u32 = 100;
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Downloads the picture of a receipt.
///
/// The picture is returned as it was sent. It is not available if the request asked not to keep it,
/// or if its retention period is over.
#[utoipa::path(
    get, path = "/validations/{id}/image", operation_id = "getValidationImage", tag = "Validations",
    responses(
        (status = 200, description = "The picture",
         content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/webp")),
         headers(("Content-Disposition" = String, description = "Contains the file name, such as `comprobante-{id}.png`"))),
        (status = 404, description = "image_not_available"),
        (status = 410, description = "image_not_retained"),
    ),
)]
pub(super) async fn download(Call { api, user, context }: Call, Path(id): Path<String>) -> Response {
    let file = async {
        let (validation, mut reader) = find(&api, &user, &id).await?;
        if validation.image == Some(KeptImage::NotRetained) {
            return Err(Failure::image_not_retained());
        }
        let format = validation.image.as_ref().and_then(KeptImage::format);
        let sealed = images::load(reader.connection(), validation.id).await?;
        drop(reader);
        let (Some(format), Some(sealed)) = (format, sealed) else {
            return Err(Failure::image_not_available());
        };
        let (api, seal_context) = (Arc::clone(&api), seal_context(validation.id));
        let picture = spawn_blocking(move || api.sealer.open(&seal_context, &sealed)).await;
        Ok((validation.id, format, picture.unwrap_or(Err(SealError::Damaged))?))
    };
    match file.await {
        Ok((id, format, picture)) => {
            let name = format!("inline; filename=\"comprobante-{id}.{}\"", format.extension());
            let headers = [
                (CONTENT_TYPE, format.media_type()),
                (CONTENT_DISPOSITION, name.as_str()),
                (CACHE_CONTROL, "private, max-age=3600"),
                (RESOURCE_POLICY, "same-origin"),
                // The bytes come from a stranger, so the browser must not interpret them as
                // anything but a picture.
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, picture).into_response()
        }
        Err(failure) => context.fail(&failure),
    }
}

/// Encrypts a picture to be stored with this validation.
pub(super) async fn seal(api: &Arc<Api>, id: Uuid, picture: Picture) -> Result<KeptImage, SealError> {
    let (api, seal_context, format) = (Arc::clone(api), seal_context(id), picture.format());
    let sealed = spawn_blocking(move || api.sealer.seal(&seal_context, picture.bytes())).await;
    Ok(KeptImage::New { format, sealed: sealed.unwrap_or(Err(SealError::Damaged))? })
}

/// Deletes expired pictures. Runs forever.
pub(super) async fn run_maintenance(api: &Api) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        let before = clock::timestamp() - api.images_kept;
        if let Err(error) = expire(api, before).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not delete expired pictures");
        }
    }
}

/// Deletes the pictures that were stored before this time.
async fn expire(api: &Api, before: Timestamp) -> sqlx::Result<()> {
    loop {
        let mut reader = api.database.read().await?;
        let page = images::older(reader.connection(), before, EXPIRY_BATCH).await?;
        drop(reader);
        if page.is_empty() {
            return Ok(());
        }
        for id in page {
            let mut transaction = api.database.begin().await?;
            images::expire(transaction.connection(), id).await?;
            transaction.commit().await?;
        }
    }
}

/// Returns the context that a picture is sealed with: it cannot be opened as the picture of another
/// validation.
fn seal_context(id: Uuid) -> String {
    format!("image {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrying::tests::Setup;
    use crate::store::validations;

    #[tokio::test]
    async fn an_expired_picture_is_deleted_and_its_validation_shows_that() {
        for setup in Setup::on_both().await {
            let (old, new) = (setup.pictured().await, setup.pictured().await);
            let now = clock::timestamp();
            expire(&setup.api, now - Duration::from_mins(1)).await.unwrap();
            assert!(setup.load(old).await.image.unwrap().format().is_some(), "not yet");

            let before = setup.load(old).await;
            setup.age(old).await;
            expire(&setup.api, now - Duration::from_mins(1)).await.unwrap();
            let shown = setup.load(old).await;
            assert_eq!(
                (shown.image, shown.etag_version),
                (Some(KeptImage::Expired), before.etag_version + 1)
            );
            let mut reader = setup.api.database.read().await.unwrap();
            assert_eq!(images::load(reader.connection(), old).await.unwrap(), None);
            let sealed = images::load(reader.connection(), new).await.unwrap().unwrap();
            drop(reader);
            assert_eq!(setup.api.sealer.open(&seal_context(new), &sealed).unwrap(), b"picture");
            assert!(
                setup.api.sealer.open(&seal_context(old), &sealed).is_err(),
                "the picture of another validation"
            );
        }
    }

    impl Setup {
        /// Stores a validation with a picture.
        async fn pictured(&self) -> Uuid {
            let id = self.validation(1, &["not_found"], &crate::retrying::tests::caps()).await;
            let mut validation = self.load(id).await;
            validation.id = Uuid::now_v7();
            let sealed = self.api.sealer.seal(&seal_context(validation.id), b"picture").unwrap();
            validation.image = Some(KeptImage::New { format: crate::ocr::Format::Png, sealed });
            let mut transaction = self.api.database.begin().await.unwrap();
            validations::insert(transaction.connection(), &validation).await.unwrap();
            transaction.commit().await.unwrap();
            validation.id
        }

        /// Makes the picture old.
        async fn age(&self, id: Uuid) {
            let mut transaction = self.api.database.begin().await.unwrap();
            platform::db::dispatch!(transaction.connection(), c => sqlx::query("UPDATE images SET created_at = 0 WHERE validation = $1")
                .bind(id.to_string()).execute(c).await.map(drop))
            .unwrap();
            transaction.commit().await.unwrap();
        }
    }
}
