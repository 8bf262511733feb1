//! Receipts that are pictures: what they are checked for, who reads them, and what is made of what was read.
//!
//! Nothing here knows of the API that asks.

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

/// Who reads what stands in a picture.
#[async_trait]
pub(crate) trait Recogniser: fmt::Debug + Send + Sync {
    /// Finds out, once, whether pictures can be read, and says in the log if not.
    async fn prepare(&self);

    /// Reads a picture, which takes seconds.
    ///
    /// # Cancel safety
    /// Dropped, whoever reads is stopped, and nothing is left.
    async fn read(&self, picture: Picture) -> Result<Reading, RecogniseError>;
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    /// The rows of the picture from top to bottom, each from left to right.
    pub(crate) rows: Vec<String>,
    /// How sure the reader is of it, from 0 to 1.
    pub(crate) confidence: f64,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecogniseError {
    #[error("there is no program that reads pictures")]
    Missing,
    #[error("reading the picture took too long")]
    Timeout,
    #[error("the program that reads pictures failed: {0}")]
    Failed(String),
    #[error(transparent)]
    Picture(#[from] PictureError),
}
