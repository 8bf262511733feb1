//! Bytes as hexadecimal digits.

/// Encodes bytes as lower-case digits.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        digits.extend([byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or('0')));
        digits
    })
}

/// Decodes exactly `N` bytes from digits of either case. Returns `None` if the text is anything
/// else.
pub fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut values =
        digits.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()));
    for byte in &mut bytes {
        *byte = values.next()?? << 4 | values.next()??;
    }
    values.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_encoded_and_decoded_exactly() {
        assert_eq!(encode(&[0, 15, 255]), "000fff");
        assert_eq!(decode("000FfF"), Some([0, 15, 255]));
        for digits in ["", "000ff", "000ffff", "000fffff", "000fxf", "000f f"] {
            assert_eq!(decode::<3>(digits), None, "{digits}");
        }
    }
}
