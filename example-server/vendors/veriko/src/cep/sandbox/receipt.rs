//! The CEPs of the sandbox: in Banxico's format, but recognisably not genuine.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use quick_xml::escape::escape;
use sha2::{Digest, Sha256};

use crate::cep::account::{Account, AccountKind};
use crate::cep::bank::Bank;
use crate::cep::document::Cep;
use crate::cep::payment::{Payment, Reference, TrackingKey};

/// Generates the CEP of a payment. The same payment always gives the same CEP. Values that the
/// payment lacks are `NA`, as in Banxico's own.
pub(super) fn of(payment: &Payment) -> Cep {
    let name = |bank: Option<&Bank>| bank.map_or(NOT_AVAILABLE, |bank| bank.name);
    let (from, to) = (name(payment.sending_bank()), name(payment.receiving_bank()));
    let code = payment.receiving_bank().map_or(NOT_AVAILABLE, |bank| bank.spei_code);
    let account = payment.cuenta_beneficiaria().map_or(NOT_AVAILABLE, Account::digits);
    let kind = payment.cuenta_beneficiaria().map_or("-1", |account| match account.kind() {
        AccountKind::Clabe => "40",
        AccountKind::Card => "3",
        AccountKind::Phone => "10",
    });
    let reference = payment.referencia_numerica().map_or("", Reference::as_str);
    let key = payment
        .clave_rastreo()
        .map_or_else(|| format!("SANDBOX{reference}"), |key: &TrackingKey| key.as_str().to_owned());
    let fecha = payment.fecha();
    let day = fecha.strftime("%d%m%Y");
    let monto = format!("{:.2}", payment.monto().pesos());

    // The fields are in Banxico's order: the type of payment (1: between customers), the days on
    // which it was made and credited, the time, and so on up to the certificate.
    let cadena = format!(
        "||1|{day}|{day}|{time}|{code}|{from}|{ORDENANTE}|40|{NOT_AVAILABLE}|{NOT_AVAILABLE}|{to}|{BENEFICIARIO}|{kind}|{account}|\
         {NOT_AVAILABLE}|{CONCEPTO}|0.00|{monto}|NA|NA|0|0|NA|0|0.00{rest}|{CERTIFICATE}||",
        time = HORA.replace(':', ""),
        rest = "|NA".repeat(17),
    );
    let sello = fake_seal(&cadena);
    let mut xml = String::with_capacity(2048);
    let _ = write!(
        xml,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <SPEI_Tercero FechaOperacion=\"{fecha}\" Hora=\"{HORA}\" ClaveSPEI=\"{code}\" sello=\"{sello}\" \
         numeroCertificado=\"{CERTIFICATE}\" cadenaCDA=\"{}{sello}\" claveRastreo=\"{}\">\r\n    \
         <Beneficiario BancoReceptor=\"{}\" Nombre=\"{BENEFICIARIO}\" TipoCuenta=\"{kind}\" Cuenta=\"{account}\" \
         RFC=\"{NOT_AVAILABLE}\" Concepto=\"{CONCEPTO}\" IVA=\"0.00\" MontoPago=\"{monto}\"/>\r\n    \
         <Ordenante BancoEmisor=\"{}\" Nombre=\"{ORDENANTE}\" TipoCuenta=\"40\" Cuenta=\"{NOT_AVAILABLE}\" \
         RFC=\"{NOT_AVAILABLE}\"/>\r\n</SPEI_Tercero>",
        escape(&cadena),
        escape(&key),
        escape(to),
        escape(from),
    );
    Cep::parse(xml).expect("the sandbox writes a valid CEP")
}

const NOT_AVAILABLE: &str = "NA";
const HORA: &str = "12:00:00";
const CERTIFICATE: &str = "00000000000000000000";
const ORDENANTE: &str = "ORDENANTE DE PRUEBA";
const BENEFICIARIO: &str = "BENEFICIARIO DE PRUEBA";
const CONCEPTO: &str = "SANDBOX, SIN VALIDEZ";

/// Returns a placeholder for the signature, as long as one of 2048 bits.
fn fake_seal(cadena: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(cadena.as_bytes()).into();
    BASE64_STANDARD.encode(digest.repeat(8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::restore;

    #[test]
    fn the_cep_matches_the_payment() {
        for payment in [
            r#"{"fecha":"2025-03-15","monto":15000.5,"clave_rastreo":"MXBA20250315001234","emisor":"BANAMEX",
                "receptor":"BBVA MEXICO","cuenta_beneficiaria":"012180004412345678"}"#,
            r#"{"fecha":"2025-03-15","monto":0.01,"clave_rastreo":"Á&\"'|1","cuenta_beneficiaria":"4111111111111111"}"#,
            r#"{"fecha":"2025-03-15","monto":999999999999.99,"clave_rastreo":"MX1","cuenta_beneficiaria":"5512345678"}"#,
            r#"{"fecha":"2025-03-15","monto":1,"referencia_numerica":"0000012"}"#,
        ] {
            let payment = restore(payment).unwrap();
            let cep = of(&payment);
            assert!(cep.is_of(&payment), "{payment:?}");
            assert_eq!(cep, of(&payment));
            assert_eq!(Cep::parse(cep.xml().clone()).unwrap(), cep);
        }
    }

    #[test]
    fn the_cep_is_marked_as_a_sandbox_one_and_has_banxicos_format() {
        let payment = r#"{"fecha":"2025-03-15","monto":15000.5,"clave_rastreo":"MX1","emisor":"BANAMEX",
            "cuenta_beneficiaria":"012180004412345678"}"#;
        let cep = of(&restore(payment).unwrap());
        assert_eq!(cep.concepto, CONCEPTO);
        assert_eq!((cep.fecha_operacion.as_str(), cep.clave_spei.as_str()), ("2025-03-15", "40012"));
        assert_eq!(
            (cep.beneficiario.banco.as_str(), cep.ordenante.banco.as_str()),
            ("BBVA Mexico", "Banamex")
        );
        // The position where clients look for the time of the credit.
        let fields: Vec<_> = cep.cadena_cda.split('|').collect();
        assert_eq!((fields[2], fields[4], fields[5]), ("1", "15032025", "120000"));
        assert_eq!((fields.len(), fields[19]), (47, "15000.50"));
        assert_eq!(fields.last(), Some(&cep.sello.as_str()));
    }
}
