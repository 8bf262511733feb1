//! JSON strings.

use std::fmt::{self, Display, Formatter, Write};

/// Shows a value as a JSON string with its quotation marks (RFC 8259, section 7).
pub(super) struct Quoted<T>(pub(super) T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(Escaping(f), "{}", self.0)?;
        f.write_char('"')
    }
}

struct Escaping<'a, 'b>(&'a mut Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' | '\\' => write!(self.0, "\\{character}")?,
                '\0'..='\x1f' => write!(self.0, "\\u{:04x}", u32::from(character))?,
                _ => self.0.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_ascii_and_one_beyond_comes_back() {
        let text: String = ('\0'..='\x7f').chain(['ñ', '\u{1f511}']).collect();
        let json = Quoted(&text).to_string();
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
