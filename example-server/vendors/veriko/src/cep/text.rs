//! How words are compared.

/// Words as they are compared: letters and digits in capitals, without the accents of Spanish. Accents written as characters
/// of their own fall away as all that is neither.
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
    fn words_are_compared_by_letters_and_digits_without_their_accents() {
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
