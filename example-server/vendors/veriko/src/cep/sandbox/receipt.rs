//! The CEPs of the sandbox: in the form of Banxico's, and plainly none of its.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use quick_xml::escape::escape;
use sha2::{Digest, Sha256};

use crate::cep::account::{Account, AccountKind};
use crate::cep::bank::Bank;
use crate::cep::document::Cep;
use crate::cep::payment::{Payment, Reference, TrackingKey};

/// The CEP of a payment, the same each time. What the payment does not say is `NA`, as Banxico has it.
pub(super) fn of(payment: &Payment) -> Cep {
    let name = |bank: Option<&Bank>| bank.map_or(NOTHING, |bank| bank.name);
    let (from, to) = (name(payment.sending_bank()), name(payment.receiving_bank()));
    let code = payment.receiving_bank().map_or(NOTHING, |bank| bank.spei_code);
    let account = payment.cuenta_beneficiaria().map_or(NOTHING, Account::digits);
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

    // The kind of payment (1: from one customer to another), the days it was made and credited on, when, and so on down to
    // the certificate: the order of the fields is Banxico's.
    let cadena = format!(
        "||1|{day}|{day}|{time}|{code}|{from}|{ORDENANTE}|40|{NOTHING}|{NOTHING}|{to}|{BENEFICIARIO}|{kind}|{account}|\
         {NOTHING}|{CONCEPTO}|0.00|{monto}|NA|NA|0|0|NA|0|0.00{rest}|{CERTIFICATE}||",
        time = HORA.replace(':', ""),
        rest = "|NA".repeat(17),
    );
    let sello = seal(&cadena);
    let mut xml = String::with_capacity(2048);
    let _ = write!(
        xml,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <SPEI_Tercero FechaOperacion=\"{fecha}\" Hora=\"{HORA}\" ClaveSPEI=\"{code}\" sello=\"{sello}\" \
         numeroCertificado=\"{CERTIFICATE}\" cadenaCDA=\"{}{sello}\" claveRastreo=\"{}\">\r\n    \
         <Beneficiario BancoReceptor=\"{}\" Nombre=\"{BENEFICIARIO}\" TipoCuenta=\"{kind}\" Cuenta=\"{account}\" \
         RFC=\"{NOTHING}\" Concepto=\"{CONCEPTO}\" IVA=\"0.00\" MontoPago=\"{monto}\"/>\r\n    \
         <Ordenante BancoEmisor=\"{}\" Nombre=\"{ORDENANTE}\" TipoCuenta=\"40\" Cuenta=\"{NOTHING}\" \
         RFC=\"{NOTHING}\"/>\r\n</SPEI_Tercero>",
        escape(&cadena),
        escape(&key),
        escape(to),
        escape(from),
    );
    Cep::parse(xml).expect("the sandbox writes what a CEP is")
}

const NOTHING: &str = "NA";
const HORA: &str = "12:00:00";
const CERTIFICATE: &str = "00000000000000000000";
const ORDENANTE: &str = "ORDENANTE DE PRUEBA";
const BENEFICIARIO: &str = "BENEFICIARIO DE PRUEBA";
const CONCEPTO: &str = "SANDBOX, SIN VALIDEZ";

/// As long as a seal of 2048 bits, and nobody's signature.
fn seal(cadena: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(cadena.as_bytes()).into();
    BASE64_STANDARD.encode(digest.repeat(8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::restore;

    #[test]
    fn the_cep_of_a_payment_is_of_that_payment() {
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
    fn it_says_what_it_is_and_has_banxicos_form() {
        let payment = r#"{"fecha":"2025-03-15","monto":15000.5,"clave_rastreo":"MX1","emisor":"BANAMEX",
            "cuenta_beneficiaria":"012180004412345678"}"#;
        let cep = of(&restore(payment).unwrap());
        assert_eq!(cep.concepto, CONCEPTO);
        assert_eq!((cep.fecha_operacion.as_str(), cep.clave_spei.as_str()), ("2025-03-15", "40012"));
        assert_eq!(
            (cep.beneficiario.banco.as_str(), cep.ordenante.banco.as_str()),
            ("BBVA Mexico", "Banamex")
        );
        // Where a client looks for when the money came.
        let fields: Vec<_> = cep.cadena_cda.split('|').collect();
        assert_eq!((fields[2], fields[4], fields[5]), ("1", "15032025", "120000"));
        assert_eq!((fields.len(), fields[19]), (47, "15000.50"));
        assert_eq!(fields.last(), Some(&cep.sello.as_str()));
    }
}
