//! What a receipt says of its payment, found by the names that Mexican banks give their fields.

mod read;

use jiff::civil::Date;

use crate::cep::{Account, Amount, Bank, Reference, TrackingKey};
use read::{account, amount, bank, date, reference, tracking_key};

/// What was found. What is not in order is as good as not there: people and programs misread digits.
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

// The names of each field, the more exact ones first: of what they find, the first that can be read counts.
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
/// A row with one of these is about the other side of the payment.
const OF_SENDER: &[&str] = &["ORIGEN", "ORDENANTE", "RETIRO", "CARGO", "EMISOR", "EMISORA"];

impl Receipt {
    /// Looks for each field in the rows of a receipt.
    pub(crate) fn find(rows: &[String]) -> Self {
        let rows: Vec<Row> = rows.iter().map(|row| Row::of(row)).collect();
        Self {
            fecha: field(&rows, FECHA, date).or_else(|| rows.iter().find_map(|row| date(&row.text))),
            monto: field(&rows, MONTO, amount).or_else(|| {
                rows.iter().filter(|row| row.text.contains('$')).find_map(|row| amount(&row.text))
            }),
            clave_rastreo: field(&rows, CLAVE, tracking_key),
            referencia_numerica: field(&rows, REFERENCIA, reference),
            cuenta_beneficiaria: of_receiver(&rows, account).or_else(|| {
                rows.iter()
                    .filter(|row| !row.is_about(OF_SENDER))
                    .find_map(|row| account(&row.text))
                    .filter(is_clabe)
            }),
            emisor: field(&rows, EMISOR, bank),
            receptor: field(&rows, RECEPTOR, bank),
        }
    }
}

/// One row, and what it is compared by: capitals without accents, character for character the same length.
struct Row {
    text: String,
    folded: Vec<char>,
}

impl Row {
    fn of(text: &str) -> Self {
        Self { text: text.to_owned(), folded: text.chars().map(fold).collect() }
    }

    /// Where this name ends, if it stands here as words of its own. Points and hyphens within it mean nothing.
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

    /// What stands behind the place.
    fn behind(&self, at: usize) -> String {
        self.text.chars().skip(at).collect()
    }

    fn is_about(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.find(name).is_some())
    }
}

/// The first value, of the most exact name, that can be read: behind the name, or else in the row below it.
fn field<T>(rows: &[Row], names: &[&str], read: fn(&str) -> Option<T>) -> Option<T> {
    names.iter().find_map(|name| {
        rows.iter().enumerate().find_map(|(index, row)| {
            let behind = row.behind(row.find(name)?);
            read(&behind).or_else(|| {
                let bare = behind.chars().all(|c| !c.is_alphanumeric());
                rows.get(index + 1).filter(|_| bare).and_then(|below| read(&below.text))
            })
        })
    })
}

/// The same of the account, where rows about the sender are none.
fn of_receiver(rows: &[Row], read: fn(&str) -> Option<Account>) -> Option<Account> {
    CUENTA.iter().find_map(|name| {
        rows.iter().enumerate().filter(|(_, row)| !row.is_about(OF_SENDER)).find_map(|(index, row)| {
            let behind = row.behind(row.find(name)?);
            read(&behind).or_else(|| {
                let bare = behind.chars().all(|c| !c.is_ascii_digit());
                rows.get(index + 1)
                    .filter(|below| bare && !below.is_about(OF_SENDER))
                    .and_then(|below| read(&below.text))
            })
        })
    })
}

/// Only of a CLABE do the digits tell that there is no other number here.
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
