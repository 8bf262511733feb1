//! The pictures of receipts: how they are kept, `GET /v1/validations/{id}/image`, and their end.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::HeaderName;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::api::Api;
use super::envelope::Context;
use super::errors::Failure;
use super::store::images;
use super::user::User;
use super::validation::KeptImage;
use super::validations::find;
use crate::ocr::Picture;
use platform::clock;
use platform::encryption::SealError;

/// How often pictures are looked for that were kept long enough, and how many of them at a time.
const EVERY: Duration = Duration::from_hours(1);
const PAGE: u32 = 100;
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Downloads the picture of a receipt.
///
/// As it was sent, unless the request said that it is not to be kept, or it was kept for as long as pictures are.
#[utoipa::path(
    get, path = "/validations/{id}/image", operation_id = "getValidationImage", tag = "Validations",
    responses(
        (status = 200, description = "The picture",
         content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/webp")),
         headers(("Content-Disposition" = String, description = "With the name of the file: `comprobante-{id}.png`, for instance"))),
        (status = 404, description = "image_not_available"),
        (status = 410, description = "image_not_retained"),
    ),
)]
pub(super) async fn download(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(context): Extension<Context>,
) -> Response {
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
        let (api, about) = (Arc::clone(&api), about(validation.id));
        let picture = spawn_blocking(move || api.sealer.open(&about, &sealed)).await;
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
                // It is what a stranger has sent, and nothing but a picture.
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, picture).into_response()
        }
        Err(failure) => context.fail(&failure),
    }
}

/// A picture as it is kept with this validation.
pub(super) async fn seal(api: &Arc<Api>, id: Uuid, picture: Picture) -> Result<KeptImage, SealError> {
    let (api, about, format) = (Arc::clone(api), about(id), picture.format());
    let sealed = spawn_blocking(move || api.sealer.seal(&about, picture.bytes())).await;
    Ok(KeptImage::New { format, sealed: sealed.unwrap_or(Err(SealError::Damaged))? })
}

/// Drops pictures that were kept long enough, for ever.
pub(super) async fn run_maintenance(api: &Api) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let before = clock::timestamp() - api.images_kept;
        if let Err(error) = expire(api, before).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot drop old pictures");
        }
    }
}

/// Drops those that were kept before this time.
async fn expire(api: &Api, before: Timestamp) -> sqlx::Result<()> {
    loop {
        let mut reader = api.database.read().await?;
        let page = images::older(reader.connection(), before, PAGE).await?;
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

/// What a picture is sealed as: that of another validation is none.
fn about(id: Uuid) -> String {
    format!("image {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrying::tests::Setup;
    use crate::store::validations;

    #[tokio::test]
    async fn a_picture_is_dropped_when_it_was_kept_long_enough_and_its_validation_says_so() {
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
            assert_eq!(setup.api.sealer.open(&about(new), &sealed).unwrap(), b"picture");
            assert!(setup.api.sealer.open(&about(old), &sealed).is_err(), "it is that of another one");
        }
    }

    impl Setup {
        /// A validation with a picture.
        async fn pictured(&self) -> Uuid {
            let id = self.validation(1, &["not_found"], &crate::retrying::tests::caps()).await;
            let mut validation = self.load(id).await;
            validation.id = Uuid::now_v7();
            let sealed = self.api.sealer.seal(&about(validation.id), b"picture").unwrap();
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
