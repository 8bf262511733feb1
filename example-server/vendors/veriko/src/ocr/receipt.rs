//! The payment on a receipt, found by the field labels that Mexican banks use.

mod read;

use jiff::civil::Date;

use crate::cep::{Account, Amount, Bank, Reference, TrackingKey};
use read::{account, amount, bank, date, reference, tracking_key};

/// The fields that were found. An invalid value is treated as missing, because people and programs
/// misread digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) fecha: Option<Date>,
    pub(crate) monto: Option<Amount>,
    pub(crate) clave_rastreo: Option<TrackingKey>,
    pub(crate) referencia_numerica: Option<Reference>,
    pub(crate) cuenta_beneficiaria: Option<Account>,
    pub(crate) emisor: Option<&'static Bank>,
    pub(crate) receptor: Option<&'static Bank>,
}

// The labels of each field, the most specific ones first. The first one with a readable value is
// used.
const FECHA: &[&str] = &[
    "FECHA DE OPERACION",
    "FECHA OPERACION",
    "FECHA DE TRANSFERENCIA",
    "FECHA DE ENVIO",
    "FECHA DE PAGO",
    "FECHA DE APLICACION",
    "FECHA Y HORA",
    "FECHA",
];
const MONTO: &[&str] = &[
    "MONTO TRANSFERIDO",
    "IMPORTE TRANSFERIDO",
    "MONTO",
    "IMPORTE",
    "CANTIDAD",
    "TRANSFERISTE",
    "ENVIASTE",
    "TOTAL",
];
const CLAVE: &[&str] =
    &["CLAVE DE RASTREO", "CLAVE RASTREO", "CVE DE RASTREO", "CVE RASTREO", "NUMERO DE RASTREO", "RASTREO"];
const REFERENCIA: &[&str] = &[
    "REFERENCIA NUMERICA",
    "NUMERO DE REFERENCIA",
    "NO DE REFERENCIA",
    "NUM DE REFERENCIA",
    "NO REFERENCIA",
    "REFERENCIA",
];
const CUENTA: &[&str] = &[
    "CLABE BENEFICIARIO",
    "CLABE DEL BENEFICIARIO",
    "CLABE DESTINO",
    "CUENTA BENEFICIARIA",
    "CUENTA DEL BENEFICIARIO",
    "CUENTA BENEFICIARIO",
    "CUENTA DESTINO",
    "CUENTA DE DESTINO",
    "CUENTA DE ABONO",
    "CUENTA CLABE",
    "TARJETA DESTINO",
    "CLABE",
    "CUENTA",
    "DESTINO",
];
const EMISOR: &[&str] = &[
    "BANCO EMISOR",
    "BANCO ORDENANTE",
    "BANCO DE ORIGEN",
    "BANCO ORIGEN",
    "INSTITUCION EMISORA",
    "INSTITUCION ORDENANTE",
    "ENTIDAD EMISORA",
];
const RECEPTOR: &[&str] = &[
    "BANCO RECEPTOR",
    "BANCO BENEFICIARIO",
    "BANCO DEL BENEFICIARIO",
    "BANCO DE DESTINO",
    "BANCO DESTINO",
    "INSTITUCION RECEPTORA",
    "INSTITUCION BENEFICIARIA",
    "ENTIDAD RECEPTORA",
];
/// Words that mark a row as being about the sender.
const OF_SENDER: &[&str] = &["ORIGEN", "ORDENANTE", "RETIRO", "CARGO", "EMISOR", "EMISORA"];

impl Receipt {
    /// Finds each field in the rows of a receipt.
    pub(crate) fn find(rows: &[String]) -> Self {
        let rows: Vec<Row> = rows.iter().map(|row| Row::of(row)).collect();
        Self {
            fecha: field(&rows, FECHA, date).or_else(|| rows.iter().find_map(|row| date(&row.text))),
            monto: field(&rows, MONTO, amount).or_else(|| {
                rows.iter().filter(|row| row.text.contains('$')).find_map(|row| amount(&row.text))
            }),
            clave_rastreo: field(&rows, CLAVE, tracking_key),
            referencia_numerica: field(&rows, REFERENCIA, reference),
            cuenta_beneficiaria: beneficiary_account(&rows, account).or_else(|| {
                rows.iter()
                    .filter(|row| !row.contains_any(OF_SENDER))
                    .find_map(|row| account(&row.text))
                    .filter(is_clabe)
            }),
            emisor: field(&rows, EMISOR, bank),
            receptor: field(&rows, RECEPTOR, bank),
        }
    }
}

/// A row, and its characters for comparison: upper case, without accents, and of the same number.
struct Row {
    text: String,
    folded: Vec<char>,
}

impl Row {
    fn of(text: &str) -> Self {
        Self { text: text.to_owned(), folded: text.chars().map(fold).collect() }
    }

    /// Returns where a label ends, if the row contains it as whole words. Points and hyphens
    /// between its words are ignored.
    fn find(&self, name: &str) -> Option<usize> {
        let mut starts =
            (0..self.folded.len()).filter(|&start| start == 0 || !self.folded[start - 1].is_alphanumeric());
        starts.find_map(|start| self.ends(start, name))
    }

    fn ends(&self, start: usize, name: &str) -> Option<usize> {
        let mut at = start;
        for expected in name.chars() {
            if expected == ' ' {
                let before = at;
                while self.folded.get(at).is_some_and(|c| matches!(c, ' ' | '.' | '-' | '_')) {
                    at += 1;
                }
                (at > before).then_some(())?;
            } else {
                (*self.folded.get(at)? == expected).then_some(())?;
                at += 1;
            }
        }
        self.folded.get(at).is_none_or(|c| !c.is_alphanumeric()).then_some(at)
    }

    /// Returns the text from this position on.
    fn text_after(&self, at: usize) -> String {
        self.text.chars().skip(at).collect()
    }

    fn contains_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.find(name).is_some())
    }
}

/// Returns the first readable value, trying the most specific label first. The value is after the
/// label or, if nothing is there, in the row below.
fn field<T>(rows: &[Row], names: &[&str], read: fn(&str) -> Option<T>) -> Option<T> {
    names.iter().find_map(|name| {
        rows.iter().enumerate().find_map(|(index, row)| {
            let text_after = row.text_after(row.find(name)?);
            read(&text_after).or_else(|| {
                let no_value = text_after.chars().all(|c| !c.is_alphanumeric());
                rows.get(index + 1).filter(|_| no_value).and_then(|below| read(&below.text))
            })
        })
    })
}

/// Does the same as [`field`] for the account, and skips rows about the sender.
fn beneficiary_account(rows: &[Row], read: fn(&str) -> Option<Account>) -> Option<Account> {
    CUENTA.iter().find_map(|name| {
        rows.iter().enumerate().filter(|(_, row)| !row.contains_any(OF_SENDER)).find_map(|(index, row)| {
            let text_after = row.text_after(row.find(name)?);
            read(&text_after).or_else(|| {
                let no_value = text_after.chars().all(|c| !c.is_ascii_digit());
                rows.get(index + 1)
                    .filter(|below| no_value && !below.contains_any(OF_SENDER))
                    .and_then(|below| read(&below.text))
            })
        })
    })
}

/// Returns whether the account is a CLABE. Without a label, only a CLABE can be told from other
/// numbers, by its check digit.
fn is_clabe(account: &Account) -> bool {
    account.kind() == crate::cep::AccountKind::Clabe
}

fn fold(c: char) -> char {
    match c {
        'á' | 'Á' => 'A',
        'é' | 'É' => 'E',
        'í' | 'Í' => 'I',
        'ó' | 'Ó' => 'O',
        'ú' | 'Ú' | 'ü' | 'Ü' => 'U',
        'ñ' | 'Ñ' => 'N',
        other => other.to_ascii_uppercase(),
    }
}

#[cfg(test)]
mod tests;
