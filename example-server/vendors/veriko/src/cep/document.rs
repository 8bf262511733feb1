//! The CEP document: a small XML file, kept byte for byte.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use rust_decimal::Decimal;

use super::amount::Amount;
use super::charset;
use super::payment::{Payment, TrackingKey};
use platform::decimal::decimal;

/// A CEP: its original bytes and their content.
///
/// The root element has the time of the payment, its tracking key and the seal. `Ordenante` is the
/// sender. `Beneficiario` is the recipient, with the amount and the concept. The tracking key, the
/// amount and the account identify a CEP, so they are required; any other missing value is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Cep {
    xml: Bytes,
    pub(super) fecha_operacion: String,
    pub(super) hora: String,
    pub(super) clave_spei: String,
    pub(super) clave_rastreo: String,
    pub(super) sello: String,
    pub(super) numero_certificado: String,
    pub(super) cadena_cda: String,
    pub(super) ordenante: Side,
    pub(super) beneficiario: Side,
    pub(super) concepto: String,
    pub(super) iva: Option<Decimal>,
    pub(super) monto: Amount,
}

/// One party of a payment. Banxico writes `NA` for a value that does not apply to the type of
/// payment.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) banco: String,
    pub(super) nombre: String,
    pub(super) tipo_cuenta: String,
    pub(super) cuenta: String,
    pub(super) rfc: String,
}

impl Cep {
    /// The maximum length. A real CEP has about 1.5 KB.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// The maximum depth of nesting. A real CEP has a depth of two.
    const MAX_DEPTH: usize = 8;

    /// Parses a CEP. Bytes that are not valid UTF-8 are taken as Latin-1, whatever the document
    /// declares.
    ///
    /// # Errors
    /// If it is too long, is not well formed, has a document type declaration (which could define
    /// entities) or two root elements, or lacks a value that identifies a CEP.
    pub fn parse(xml: impl Into<Bytes>) -> Result<Self, CepError> {
        let xml = xml.into();
        if xml.len() > Self::MAX_BYTES {
            return Err(CepError::TooLong);
        }
        let (mut root, mut children) = elements(&charset::decode(&xml))?;
        let mut child = |name| children.remove(name).ok_or(CepError::Missing(name));
        let (mut from, mut to) = (child("Ordenante")?, child("Beneficiario")?);
        let clave_rastreo = root.remove("claveRastreo").ok_or(CepError::Missing("claveRastreo"))?;
        let monto = to.remove("MontoPago").ok_or(CepError::Missing("MontoPago"))?;
        let monto = Amount::from_text(monto.trim()).map_err(|_| CepError::Number("MontoPago"))?;
        if !to.contains_key("Cuenta") {
            return Err(CepError::Missing("Cuenta"));
        }
        let iva = match take(&mut to, "IVA").trim() {
            "" | "NA" | "ND" => None,
            iva => Some(decimal(iva).ok_or(CepError::Number("IVA"))?),
        };
        Ok(Self {
            fecha_operacion: take(&mut root, "FechaOperacion"),
            hora: take(&mut root, "Hora"),
            clave_spei: take(&mut root, "ClaveSPEI"),
            sello: take(&mut root, "sello"),
            numero_certificado: take(&mut root, "numeroCertificado"),
            cadena_cda: take(&mut root, "cadenaCDA"),
            concepto: take(&mut to, "Concepto"),
            ordenante: Side::of(&mut from, "BancoEmisor"),
            beneficiario: Side::of(&mut to, "BancoReceptor"),
            clave_rastreo,
            iva,
            monto,
            xml,
        })
    }

    /// Returns the original document.
    pub fn xml(&self) -> &Bytes {
        &self.xml
    }

    /// Returns whether this is the CEP of `payment`: they have the same amount, the same tracking
    /// key if the payment has one, and the same account if both name one. (The CEP of a payment to
    /// the bank itself names none.)
    pub fn is_of(&self, payment: &Payment) -> bool {
        let key = payment.clave_rastreo().map(TrackingKey::as_str);
        let account = payment.cuenta_beneficiaria();
        let cuenta = self.beneficiario.cuenta.trim();
        key.is_none_or(|key| key.eq_ignore_ascii_case(self.clave_rastreo.trim()))
            && self.monto == payment.monto()
            && (cuenta == "NA" || account.is_none_or(|account| account.digits() == cuenta))
    }
}

/// Shows only the length: the document contains names and account numbers.
impl fmt::Debug for Cep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cep({} bytes)", self.xml.len())
    }
}

impl Side {
    fn of(attributes: &mut Attributes, banco: &str) -> Self {
        Self {
            banco: take(attributes, banco),
            nombre: take(attributes, "Nombre"),
            tipo_cuenta: take(attributes, "TipoCuenta"),
            cuenta: take(attributes, "Cuenta"),
            rfc: take(attributes, "RFC"),
        }
    }
}

/// The reason why a document is not a CEP.
#[derive(Debug, thiserror::Error)]
pub enum CepError {
    /// Longer than [`Cep::MAX_BYTES`].
    #[error("too long for a CEP")]
    TooLong,
    /// Not well formed, or with an entity that XML does not predefine.
    #[error("not well-formed XML")]
    NotXml(#[from] quick_xml::Error),
    /// Well formed, but without the structure of a CEP.
    #[error("unexpected structure: {0}")]
    Structure(&'static str),
    /// A required element or attribute is missing.
    #[error("missing {0}")]
    Missing(&'static str),
    /// An attribute that must be a number is not.
    #[error("{0} is not a number")]
    Number(&'static str),
}

type Attributes = HashMap<String, String>;

/// Returns the attributes of the root element, and those of its children by element name.
fn elements(text: &str) -> Result<(Attributes, HashMap<String, Attributes>), CepError> {
    let mut reader = Reader::from_str(text.strip_prefix('\u{FEFF}').unwrap_or(text));
    let (mut root, mut children) = (None, HashMap::new());
    let mut depth = 0;
    loop {
        let event = reader.read_event()?;
        match &event {
            Event::Start(element) | Event::Empty(element) => match depth {
                0 if root.is_some() => return Err(CepError::Structure("a second root element")),
                0 => root = Some(attributes(element)?),
                1 => {
                    let name = element.name().as_ref().to_owned();
                    if children.insert(name, attributes(element)?).is_some() {
                        return Err(CepError::Structure("a repeated element"));
                    }
                }
                Cep::MAX_DEPTH => return Err(CepError::Structure("elements nested too deeply")),
                _ => {}
            },
            Event::DocType(_) => return Err(CepError::Structure("a document type declaration")),
            Event::Eof if depth > 0 => return Err(CepError::Structure("an unclosed element")),
            Event::Eof => return Ok((root.ok_or(CepError::Structure("no root element"))?, children)),
            _ => {}
        }
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            _ => {}
        }
    }
}

/// Returns the attributes of an element. Only XML's five predefined entities and numeric character
/// references are decoded.
fn attributes(element: &BytesStart<'_>) -> Result<Attributes, CepError> {
    element
        .attributes()
        .map(|attribute| {
            let attribute = attribute.map_err(quick_xml::Error::from)?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0)?;
            Ok((attribute.key.as_ref().to_owned(), value.into_owned()))
        })
        .collect()
}

fn take(attributes: &mut Attributes, name: &str) -> String {
    attributes.remove(name).unwrap_or_default()
}

#[cfg(test)]
mod tests;
