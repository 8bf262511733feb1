//! The language of an error's `detail`: English by default, Spanish if the client prefers it.

use http::{HeaderMap, header};

/// A supported language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Spanish,
}

impl Language {
    /// Returns the language that the request prefers (RFC 9110, section 12.5.4). The higher weight
    /// wins; in a tie, the language that comes first. If the request accepts neither, the result is
    /// English.
    pub fn preferred(headers: &HeaderMap) -> Self {
        let mut english = Preference::default();
        let mut spanish = Preference::default();
        let ranges = headers.get_all(header::ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
        for (position, range) in ranges.flat_map(|value| value.split(',')).enumerate() {
            let Some((tag, weight)) = parse(range) else { continue };
            match tag {
                "*" => {
                    english.any(weight, position);
                    spanish.any(weight, position);
                }
                _ if has_primary(tag, "en") => english.named(weight, position),
                _ if has_primary(tag, "es") => spanish.named(weight, position),
                _ => {}
            }
        }
        if spanish.rank() > english.rank() { Self::Spanish } else { Self::English }
    }

    /// Returns the value of `Content-Language`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Spanish => "es",
        }
    }
}

/// The weight of one language, in thousandths, and its position in the header.
#[derive(Default)]
struct Preference {
    named: Option<(u16, usize)>,
    wildcard: Option<(u16, usize)>,
}

impl Preference {
    fn named(&mut self, weight: u16, position: usize) {
        // `es-MX;q=0.9, es;q=0.1` names Spanish twice. The higher weight counts.
        if self.named.is_none_or(|(highest, _)| weight > highest) {
            self.named = Some((weight, position));
        }
    }

    fn any(&mut self, weight: u16, position: usize) {
        self.wildcard.get_or_insert((weight, position));
    }

    /// Returns the sort key: the weight, then the position, earlier first. A language named with
    /// `q=0` stays refused even if there is a `*`.
    fn rank(&self) -> (u16, std::cmp::Reverse<usize>) {
        let (weight, position) = self.named.or(self.wildcard).unwrap_or((0, usize::MAX));
        (weight, std::cmp::Reverse(if weight == 0 { usize::MAX } else { position }))
    }
}

fn has_primary(tag: &str, primary: &str) -> bool {
    tag.split('-').next().is_some_and(|subtag| subtag.eq_ignore_ascii_case(primary))
}

/// Parses a range such as `es-MX;q=0.8` into a tag and a weight in thousandths. Returns `None` if
/// it is malformed.
fn parse(range: &str) -> Option<(&str, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let tag = parts.next().filter(|tag| !tag.is_empty())?;
    let weight = match parts.next() {
        None => 1000,
        Some(parameter) => {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim();
            let well_formed = name.trim().eq_ignore_ascii_case("q")
                && value.len() <= 5
                && value.starts_with(['0', '1'])
                && value.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
            let weight = value.parse::<f32>().ok().filter(|weight| well_formed && *weight <= 1.0)?;
            // The checks above keep it within [0, 1000].
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let thousandths = (weight * 1000.0).round() as u16;
            thousandths
        }
    };
    Some((tag, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_with_the_higher_weight_is_preferred() {
        let cases = [
            ("es", Language::Spanish),
            ("ES-mx", Language::Spanish),
            ("en", Language::English),
            ("es-MX,es;q=0.9,en;q=0.8", Language::Spanish),
            ("en;q=0.8, es;q=0.9", Language::Spanish),
            ("en, es", Language::English),
            ("es, en", Language::Spanish),
            ("es;q=0.5, en;q=0.5", Language::Spanish),
            ("fr, es;q=0.1", Language::Spanish),
            ("fr, de", Language::English),
            ("*", Language::English),
            ("*, es;q=0.5", Language::English),
            ("*;q=0.1, es;q=0.5", Language::Spanish),
            ("en;q=0, *", Language::Spanish),
            ("es;q=0", Language::English),
            ("es;q=0, en;q=0", Language::English),
            ("est", Language::English),
            ("es;q=2", Language::English),
            ("es;q=NaN", Language::English),
            ("es;level=1", Language::English),
            ("", Language::English),
            (",;,", Language::English),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, value.parse().unwrap())]);
            assert_eq!(Language::preferred(&headers), expected, "{value}");
        }
    }

    #[test]
    fn english_is_the_default() {
        assert_eq!(Language::preferred(&HeaderMap::new()), Language::English);
    }
}
