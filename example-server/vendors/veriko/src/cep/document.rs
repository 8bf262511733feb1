//! The CEP itself: a small XML document, kept as it was given.

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

/// A CEP: its bytes exactly as they were given, and what they say.
///
/// The root carries when the payment was made, its tracking key and the seal; `Ordenante` who sent it, `Beneficiario` who
/// got it, how much and what for. The key, the sum and the account are what a CEP is recognised by, so those must be there;
/// whatever else is missing is empty.
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

/// One end of a payment. `NA` is what Banxico writes where a payment of this type has nothing to say.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) banco: String,
    pub(super) nombre: String,
    pub(super) tipo_cuenta: String,
    pub(super) cuenta: String,
    pub(super) rfc: String,
}

impl Cep {
    /// A real one has some 1.5 KB.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// Two, in a real one.
    const MAX_DEPTH: usize = 8;

    /// Reads a CEP. Text that is no UTF-8 is taken as Latin-1, whatever the document says of itself.
    ///
    /// # Errors
    /// It is no CEP: too long, not well formed, with a document type (which could define entities), with two roots, or
    /// without what a CEP is recognised by.
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

    /// The document, as it was given.
    pub fn xml(&self) -> &Bytes {
        &self.xml
    }

    /// Whether it is of the payment that was asked about: the same tracking key, if one was asked for, the same sum, and the
    /// same account, if one was asked for and the CEP names one. (A payment to the bank itself has none.)
    pub fn is_of(&self, payment: &Payment) -> bool {
        let key = payment.clave_rastreo().map(TrackingKey::as_str);
        let account = payment.cuenta_beneficiaria();
        let cuenta = self.beneficiario.cuenta.trim();
        key.is_none_or(|key| key.eq_ignore_ascii_case(self.clave_rastreo.trim()))
            && self.monto == payment.monto()
            && (cuenta == "NA" || account.is_none_or(|account| account.digits() == cuenta))
    }
}

/// Not what it says: people's names and accounts stand in it.
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

/// Why something is no CEP.
#[derive(Debug, thiserror::Error)]
pub enum CepError {
    /// Longer than [`Cep::MAX_BYTES`].
    #[error("too long for a CEP")]
    TooLong,
    /// Not well formed, or with an entity that XML does not know by itself.
    #[error("not XML")]
    NotXml(#[from] quick_xml::Error),
    /// Well formed, but not as a CEP is.
    #[error("{0} where a CEP has none")]
    Structure(&'static str),
    /// Without an element or attribute that it must have.
    #[error("no {0}")]
    Missing(&'static str),
    /// With an attribute that is no number and should be one.
    #[error("{0} is no number")]
    Number(&'static str),
}

type Attributes = HashMap<String, String>;

/// The attributes of the root, and those of its children by their names.
fn elements(text: &str) -> Result<(Attributes, HashMap<String, Attributes>), CepError> {
    let mut reader = Reader::from_str(text.strip_prefix('\u{FEFF}').unwrap_or(text));
    let (mut root, mut children) = (None, HashMap::new());
    let mut depth = 0;
    loop {
        let event = reader.read_event()?;
        match &event {
            Event::Start(element) | Event::Empty(element) => match depth {
                0 if root.is_some() => return Err(CepError::Structure("a second root")),
                0 => root = Some(attributes(element)?),
                1 => {
                    let name = element.name().as_ref().to_owned();
                    if children.insert(name, attributes(element)?).is_some() {
                        return Err(CepError::Structure("an element twice"));
                    }
                }
                Cep::MAX_DEPTH => return Err(CepError::Structure("so deep a nesting")),
                _ => {}
            },
            Event::DocType(_) => return Err(CepError::Structure("a document type")),
            Event::Eof if depth > 0 => return Err(CepError::Structure("an open end")),
            Event::Eof => return Ok((root.ok_or(CepError::Structure("nothing"))?, children)),
            _ => {}
        }
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            _ => {}
        }
    }
}

/// With no entities but the five of XML, and characters by their numbers.
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
