//! The banks of SPEI, by code and by name.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::text::fold;

/// A participant of SPEI. There is one value of each, in the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Bank {
    /// What the CLABEs of its accounts begin with: three digits.
    pub clabe_prefix: &'static str,
    /// What Banxico calls it by: five digits, and four for Banxico itself.
    pub spei_code: &'static str,
    /// What people call it by.
    pub name: &'static str,
}

impl Bank {
    /// Every bank, in the order of the CLABE prefixes.
    pub fn all() -> &'static [Self] {
        &CATALOGUE.banks
    }

    /// The bank a request means, by its name or one of its codes.
    ///
    /// Of a name neither case, accents, spaces nor punctuation count, and `Banco` before it may be there or not.
    pub fn find(text: &str) -> Option<&'static Self> {
        let text = text.trim();
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::with_code(text);
        }
        let name = fold(text);
        let named = |name: &str| CATALOGUE.by_name.get(name).map(|&index| &CATALOGUE.banks[index]);
        named(&name).or_else(|| named(name.strip_prefix("BANCO")?))
    }

    /// What else people call it by.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> {
        lines(ALIASES).filter(|[_, code]| *code == self.spei_code).map(|[alias, _]| alias)
    }

    /// The bank with this SPEI code or, of three digits, with this CLABE prefix.
    pub fn with_code(code: &str) -> Option<&'static Self> {
        Self::all().iter().find(|bank| bank.spei_code == code || bank.clabe_prefix == code)
    }
}

/// No line is ever removed from either: stored payments name their banks and are read again.
const BANKS: &str = include_str!("../../data/spei_banks.csv");
/// Names the banks are known by beside the one in their own line.
const ALIASES: &str = include_str!("../../data/bank_aliases.csv");

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::read);

struct Catalogue {
    banks: Vec<Bank>,
    /// From a folded name to the place in `banks`.
    by_name: HashMap<String, usize>,
}

impl Catalogue {
    fn read() -> Self {
        let banks: Vec<Bank> = lines(BANKS)
            .map(|[clabe_prefix, spei_code, name]| Bank { clabe_prefix, spei_code, name })
            .collect();
        let place = |code: &str| {
            banks.iter().position(|bank| bank.spei_code == code).expect("an alias is one of a bank we have")
        };
        let names = banks.iter().enumerate().map(|(index, bank)| (fold(bank.name), index));
        let aliases = lines(ALIASES).map(|[alias, code]| (fold(alias), place(code)));
        let by_name = names.chain(aliases).collect();
        Self { banks, by_name }
    }
}

/// The rows below the heading. Neither file quotes anything, so a comma is always a border.
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
    fn every_bank_is_found_by_all_it_is_called_and_is_the_only_one() {
        assert_eq!(Bank::all().len(), lines::<3>(BANKS).count());
        for bank in Bank::all() {
            for text in [bank.name, bank.spei_code, bank.clabe_prefix] {
                assert_eq!(Bank::find(text), Some(bank), "{text}");
            }
            assert!(bank.clabe_prefix.len() == 3 && (4..=5).contains(&bank.spei_code.len()), "{bank:?}");
        }
        let names = Bank::all().len() + lines::<2>(ALIASES).count();
        assert_eq!(CATALOGUE.by_name.len(), names, "a name is there twice");
    }
}
