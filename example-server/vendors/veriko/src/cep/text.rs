//! Text normalisation for comparisons.

/// Normalises a text for comparison: letters and digits only, in upper case, without the accents of
/// Spanish. A combining accent is dropped, because it is neither a letter nor a digit.
pub(super) fn fold(name: &str) -> String {
    name.chars()
        .flat_map(char::to_uppercase)
        .filter(|c| c.is_alphanumeric())
        .map(|c| match c {
            'Á' => 'A',
            'É' => 'E',
            'Í' => 'I',
            'Ó' => 'O',
            'Ú' | 'Ü' => 'U',
            'Ñ' => 'N',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letters_and_digits_without_accents_are_compared() {
        for (name, folded) in [
            ("Áéíóúüñ", "AEIOUUN"),
            ("e\u{301}", "E"),
            (" Bx+ 3.14 (x) ", "BX314X"),
            ("Ж é", "ЖE"),
            ("- .", ""),
        ] {
            assert_eq!(fold(name), folded, "{name}");
        }
    }
}
