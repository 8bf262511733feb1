//! A picture as it was sent, checked by its header.

use std::fmt;
use std::io::Cursor;

use bytes::Bytes;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

/// A JPEG, PNG or WebP of acceptable size. Only decoding shows whether it is complete.
#[derive(Clone)]
pub(crate) struct Picture {
    bytes: Bytes,
    format: Format,
}

/// The format of a picture, detected from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JPEG
    Jpeg,
    /// PNG
    Png,
    /// WebP
    WebP,
}

/// The reason why a picture cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("the picture is larger than 12 MB")]
    TooLarge,
    #[error("the picture is not a JPEG, PNG or WebP")]
    Format,
    #[error("the picture is smaller than 32 by 32 pixels")]
    TooSmall,
    #[error("a side of the picture is longer than 12000 pixels")]
    Dimensions,
    #[error("the picture has more than 40 million pixels")]
    Bomb,
    #[error("the picture is damaged")]
    Broken,
}

impl Picture {
    /// The maximum length in bytes.
    pub(crate) const MAX_BYTES: usize = 12 * 1024 * 1024;
    const MAX_SIDE: u32 = 12_000;
    const MIN_SIDE: u32 = 32;
    /// The limit against decompression bombs: a few kilobytes can declare gigabytes of one colour.
    const MAX_PIXELS: u64 = 40_000_000;
    /// The decoder's memory limit: four bytes per pixel, and as much again for working space.
    const MAX_MEMORY: u64 = 8 * Self::MAX_PIXELS;

    /// Checks the header of a picture. The rest is not decoded.
    pub(crate) fn check(bytes: Bytes) -> Result<Self, PictureError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(PictureError::TooLarge);
        }
        let format = Format::of(&bytes).ok_or(PictureError::Format)?;
        let picture = Self { bytes, format };
        let (width, height) = picture.reader().into_dimensions().map_err(|error| of(&error))?;
        if width.max(height) > Self::MAX_SIDE {
            return Err(PictureError::Dimensions);
        }
        if width.min(height) < Self::MIN_SIDE {
            return Err(PictureError::TooSmall);
        }
        if u64::from(width) * u64::from(height) > Self::MAX_PIXELS {
            return Err(PictureError::Bomb);
        }
        Ok(picture)
    }

    /// Returns the bytes as they were sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Decodes the picture to an upright greyscale PGM. So the OCR program needs no decoder of its
    /// own and never gets bytes that a stranger made. This takes time and memory.
    pub(super) fn to_pgm(&self) -> Result<Vec<u8>, PictureError> {
        let mut decoder = self.reader().into_decoder().map_err(|error| of(&error))?;
        let upright = decoder.orientation().map_err(|error| of(&error))?;
        let mut pixels = DynamicImage::from_decoder(decoder).map_err(|error| of(&error))?;
        pixels.apply_orientation(upright);
        let grey = on_white(pixels).into_luma8();
        let mut pgm = format!("P5\n{} {}\n255\n", grey.width(), grey.height()).into_bytes();
        pgm.extend_from_slice(&grey);
        Ok(pgm)
    }

    fn reader(&self) -> ImageReader<Cursor<&[u8]>> {
        let mut limits = Limits::default();
        limits.max_alloc = Some(Self::MAX_MEMORY);
        let mut reader = ImageReader::with_format(Cursor::new(&self.bytes[..]), self.format.into());
        reader.limits(limits);
        reader
    }
}

/// Shows only the length: the bytes are a person's receipt and do not belong in logs.
impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picture")
            .field("format", &self.format)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Format {
    fn of(bytes: &[u8]) -> Option<Self> {
        match image::guess_format(bytes).ok()? {
            ImageFormat::Jpeg => Some(Self::Jpeg),
            ImageFormat::Png => Some(Self::Png),
            ImageFormat::WebP => Some(Self::WebP),
            _ => None,
        }
    }

    /// Returns the media type for `Content-Type`.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
        }
    }

    /// Returns the file extension.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
        }
    }

    /// Returns the format with this extension.
    pub(crate) fn with_extension(text: &str) -> Option<Self> {
        [Self::Jpeg, Self::Png, Self::WebP].into_iter().find(|format| format.extension() == text)
    }
}

impl From<Format> for ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Jpeg => Self::Jpeg,
            Format::Png => Self::Png,
            Format::WebP => Self::WebP,
        }
    }
}

/// Blends transparent pixels with white, so that their hidden colours do not appear.
fn on_white(decoded: DynamicImage) -> DynamicImage {
    if !decoded.color().has_alpha() {
        return decoded;
    }
    let mut pixels = decoded.into_rgba8();
    for pixel in pixels.pixels_mut() {
        let [red, green, blue, alpha] = pixel.0.map(u32::from);
        let over = |colour: u32| (colour * alpha + 255 * (255 - alpha)) / 255;
        let [red, green, blue] =
            [red, green, blue].map(|colour| u8::try_from(over(colour)).unwrap_or(u8::MAX));
        pixel.0 = [red, green, blue, u8::MAX];
    }
    DynamicImage::ImageRgba8(pixels)
}

fn of(error: &ImageError) -> PictureError {
    match error {
        ImageError::Limits(_) => PictureError::Bomb,
        _ => PictureError::Broken,
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, RgbaImage};

    use super::*;

    fn encoded(image: &DynamicImage, format: Format) -> Bytes {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format.into()).unwrap();
        bytes.into()
    }

    fn white(width: u32, height: u32) -> DynamicImage {
        GrayImage::from_pixel(width, height, Luma([255])).into()
    }

    #[test]
    fn the_format_is_detected_from_the_bytes() {
        for format in [Format::Jpeg, Format::Png, Format::WebP] {
            let picture = Picture::check(encoded(&white(40, 33), format)).unwrap();
            assert_eq!(picture.format, format);
            assert_eq!(Format::with_extension(format.extension()), Some(format));
            let pgm = picture.to_pgm().unwrap();
            assert_eq!(&pgm[..13], b"P5\n40 33\n255\n");
            assert_eq!(pgm.len(), 13 + 40 * 33);
        }
    }

    #[test]
    fn unreadable_pictures_are_refused_by_their_headers() {
        // Declares a size of up to a gigabyte in a few bytes.
        let claiming = |width: u32, height: u32| {
            let mut png = encoded(&white(40, 40), Format::Png).to_vec();
            png[16..20].copy_from_slice(&width.to_be_bytes());
            png[20..24].copy_from_slice(&height.to_be_bytes());
            let checksum = crc(&png[12..29]);
            png[29..33].copy_from_slice(&checksum.to_be_bytes());
            Bytes::from(png)
        };
        for (bytes, expected) in [
            (Bytes::new(), PictureError::Format),
            (Bytes::from_static(b"%PDF-1.7"), PictureError::Format),
            (Bytes::from_static(b"GIF89a"), PictureError::Format),
            (Bytes::from_static(b"\x89PNG\r\n\x1a\n"), PictureError::Broken),
            (encoded(&white(31, 100), Format::Png), PictureError::TooSmall),
            (claiming(12_001, 100), PictureError::Dimensions),
            (claiming(12_000, 12_000), PictureError::Bomb),
            (vec![0; Picture::MAX_BYTES + 1].into(), PictureError::TooLarge),
        ] {
            assert_eq!(Picture::check(bytes).err(), Some(expected));
        }
    }

    #[test]
    fn a_truncated_picture_is_detected_when_it_is_decoded() {
        let whole = encoded(&white(100, 100), Format::Png);
        let picture = Picture::check(whole.slice(..whole.len() - 40)).unwrap();
        assert_eq!(picture.to_pgm(), Err(PictureError::Broken));
    }

    #[test]
    fn transparent_pixels_become_white() {
        let transparent = RgbaImage::from_pixel(32, 32, image::Rgba([0, 0, 0, 0]));
        let pgm = Picture::check(encoded(&transparent.into(), Format::Png)).unwrap().to_pgm().unwrap();
        assert!(pgm[13..].iter().all(|shade| *shade == 255));
    }

    /// Computes the CRC-32 of PNG.
    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
        !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
    }
}
