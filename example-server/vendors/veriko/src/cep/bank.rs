//! The SPEI participants, by code and by name.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::text::fold;

/// A SPEI participant. Each exists once, in the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Bank {
    /// The first three digits of the CLABEs of its accounts.
    pub clabe_prefix: &'static str,
    /// The code that Banxico uses: five digits, or four for Banxico itself.
    pub spei_code: &'static str,
    /// The common name.
    pub name: &'static str,
}

impl Bank {
    /// Returns every bank, in the order of the CLABE prefixes.
    pub fn all() -> &'static [Self] {
        &CATALOGUE.banks
    }

    /// Finds a bank by its name or one of its codes.
    ///
    /// In a name, case, accents, spaces and punctuation are ignored, and a leading `Banco` is
    /// optional.
    pub fn find(text: &str) -> Option<&'static Self> {
        let text = text.trim();
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::with_code(text);
        }
        let name = fold(text);
        let lookup = |name: &str| CATALOGUE.by_name.get(name).map(|&index| &CATALOGUE.banks[index]);
        lookup(&name).or_else(|| lookup(name.strip_prefix("BANCO")?))
    }

    /// Returns the bank's other common names.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> {
        lines(ALIASES).filter(|[_, code]| *code == self.spei_code).map(|[alias, _]| alias)
    }

    /// Finds the bank with this SPEI code or, for three digits, with this CLABE prefix.
    pub fn with_code(code: &str) -> Option<&'static Self> {
        Self::all().iter().find(|bank| bank.spei_code == code || bank.clabe_prefix == code)
    }
}

/// Never remove a line from either file: stored payments refer to banks by name and are parsed
/// again.
const BANKS: &str = include_str!("../../data/spei_banks.csv");
/// Alternative names of the banks.
const ALIASES: &str = include_str!("../../data/bank_aliases.csv");

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::read);

struct Catalogue {
    banks: Vec<Bank>,
    /// Maps a normalised name to an index in `banks`.
    by_name: HashMap<String, usize>,
}

impl Catalogue {
    fn read() -> Self {
        let banks: Vec<Bank> = lines(BANKS)
            .map(|[clabe_prefix, spei_code, name]| Bank { clabe_prefix, spei_code, name })
            .collect();
        let index_of = |code: &str| {
            banks
                .iter()
                .position(|bank| bank.spei_code == code)
                .expect("each alias belongs to a bank in the catalogue")
        };
        let names = banks.iter().enumerate().map(|(index, bank)| (fold(bank.name), index));
        let aliases = lines(ALIASES).map(|[alias, code]| (fold(alias), index_of(code)));
        let by_name = names.chain(aliases).collect();
        Self { banks, by_name }
    }
}

/// Returns the rows below the header. Neither file uses quoting, so every comma separates two
/// columns.
fn lines<const COLUMNS: usize>(csv: &'static str) -> impl Iterator<Item = [&'static str; COLUMNS]> {
    csv.lines().skip(1).map(|line| {
        let columns: Vec<_> = line.split(',').collect();
        columns.try_into().expect("each line of the catalogue has the same columns")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bank_is_found_by_name_and_by_either_code() {
        let cases = [
            ("BBVA Mexico", Some("40012")),
            ("BBVA MEXICO", Some("40012")),
            ("BBVA México", Some("40012")),
            ("bbva me\u{301}xico", Some("40012")),
            ("  bancomer ", Some("40012")),
            ("BBVA-Bancomer", Some("40012")),
            ("40012", Some("40012")),
            (" 40012 ", Some("40012")),
            ("012", Some("40012")),
            ("BANCO NACIONAL DE MEXICO", Some("40002")),
            ("BANAMEX", Some("40002")),
            ("SCOTIABANK", Some("40044")),
            ("Banco Azteca", Some("40127")),
            ("BANCO INBURSA", Some("40036")),
            ("Bancoppel", Some("40137")),
            ("Banco Covalto", Some("40154")),
            ("Ualá", Some("40138")),
            ("banco donde", Some("40151")),
            ("Banxico", Some("2001")),
            ("2001", Some("2001")),
            ("Fondo (Fira)", Some("90685")),
            ("12", None),
            ("40013", None),
            ("99999", None),
            ("000", None),
            ("", None),
            ("Banco", None),
            ("BANCO DE LA ILUSION", None),
            ("Ж", None),
            ("BBVA MEXICOЖ", None),
        ];
        for (text, code) in cases {
            assert_eq!(Bank::find(text).map(|bank| bank.spei_code), code, "{text:?}");
        }
    }

    #[test]
    fn every_name_and_code_finds_exactly_one_bank() {
        assert_eq!(Bank::all().len(), lines::<3>(BANKS).count());
        for bank in Bank::all() {
            for text in [bank.name, bank.spei_code, bank.clabe_prefix] {
                assert_eq!(Bank::find(text), Some(bank), "{text}");
            }
            assert!(bank.clabe_prefix.len() == 3 && (4..=5).contains(&bank.spei_code.len()), "{bank:?}");
        }
        let names = Bank::all().len() + lines::<2>(ALIASES).count();
        assert_eq!(CATALOGUE.by_name.len(), names, "a name occurs twice");
    }
}
