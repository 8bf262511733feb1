//! Receipts as pictures: checking them, recognising their text and finding the payment in it.
//!
//! This module does not depend on the API that uses it.

mod child;
mod picture;
mod receipt;
mod rows;
mod tesseract;

use std::fmt;

use async_trait::async_trait;

pub use picture::Format;
pub(crate) use picture::{Picture, PictureError};
pub(crate) use receipt::Receipt;
pub(crate) use tesseract::Tesseract;

/// Recognises the text in pictures.
#[async_trait]
pub(crate) trait Recogniser: fmt::Debug + Send + Sync {
    /// Checks, once, whether pictures can be read, and logs a warning if not.
    async fn prepare(&self);

    /// Reads a picture, which takes seconds.
    ///
    /// # Cancel safety
    /// If the future is dropped, the recognition is stopped and leaves nothing behind.
    async fn read(&self, picture: Picture) -> Result<Reading, RecogniseError>;
}

/// The recognised text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    /// The rows of the picture from top to bottom, each from left to right.
    pub(crate) rows: Vec<String>,
    /// The confidence of the recognition, from 0 to 1.
    pub(crate) confidence: f64,
}

/// The reason why a picture was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecogniseError {
    #[error("the OCR program is not installed")]
    Missing,
    #[error("reading the picture took too long")]
    Timeout,
    #[error("the OCR program failed: {0}")]
    Failed(String),
    #[error(transparent)]
    Picture(#[from] PictureError),
}
