use super::*;
use crate::payment::restore;

/// A CEP in the form that Banxico writes: CRLF line ends, amounts without trailing zeros, the
/// tracking key after the seal.
const REAL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<SPEI_Tercero FechaOperacion=\"2025-03-15\" \
    Hora=\"10:53:36\" ClaveSPEI=\"40012\" sello=\"Wtvk+/==\" numeroCertificado=\"00001000000512345678\" \
    cadenaCDA=\"||1|15032025|\" claveRastreo=\"MXBA20250315001234\">\r\n    <Beneficiario BancoReceptor=\"BBVA\" \
    Nombre=\"José &amp; Núñez\" TipoCuenta=\"40\" Cuenta=\"012180004412345678\" RFC=\"ND\" Concepto=\"Pago\nde renta\" \
    IVA=\"0.00\" MontoPago=\"15000.5\"/>\r\n    <Ordenante BancoEmisor=\"Banamex\" Nombre=\"NA\" TipoCuenta=\"-1\" \
    Cuenta=\"NA\" RFC=\"NA\"/>\r\n</SPEI_Tercero>";

const ASKED: &str = r#"{"fecha":"2025-03-15","monto":15000.50,"clave_rastreo":"MXBA20250315001234",
    "cuenta_beneficiaria":"012180004412345678"}"#;

fn read(xml: impl Into<Bytes>) -> Result<Cep, String> {
    Cep::parse(xml).map_err(|error| error.to_string())
}

fn with(from: &str, to: &str) -> Result<Cep, String> {
    assert!(REAL.contains(from), "{from}");
    read(REAL.replace(from, to))
}

#[test]
fn every_field_is_read_and_the_bytes_are_kept() {
    let cep = read(REAL).unwrap();
    assert_eq!(cep.xml(), REAL.as_bytes());
    assert_eq!((cep.fecha_operacion.as_str(), cep.hora.as_str()), ("2025-03-15", "10:53:36"));
    assert_eq!((cep.clave_spei.as_str(), cep.clave_rastreo.as_str()), ("40012", "MXBA20250315001234"));
    assert_eq!((cep.sello.as_str(), cep.numero_certificado.as_str()), ("Wtvk+/==", "00001000000512345678"));
    assert_eq!(cep.cadena_cda, "||1|15032025|");
    assert_eq!((cep.monto.cents(), cep.iva), (1_500_050, Some(Decimal::ZERO)));
    let to = &cep.beneficiario;
    assert_eq!((to.banco.as_str(), to.nombre.as_str(), to.rfc.as_str()), ("BBVA", "José & Núñez", "ND"));
    assert_eq!((to.tipo_cuenta.as_str(), to.cuenta.as_str()), ("40", "012180004412345678"));
    assert_eq!(cep.concepto, "Pago de renta");
    assert_eq!((cep.ordenante.banco.as_str(), cep.ordenante.cuenta.as_str()), ("Banamex", "NA"));
    assert_eq!(format!("{cep:?}"), format!("Cep({} bytes)", REAL.len()));
}

#[test]
fn latin_1_and_a_byte_order_mark_are_accepted() {
    let latin_1: Vec<u8> = REAL.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    for xml in [latin_1, format!("\u{FEFF}{REAL}").into_bytes(), format!("{REAL}\r\n<!-- -->").into_bytes()] {
        let cep = read(xml.clone()).unwrap();
        assert_eq!(cep.beneficiario.nombre, "José & Núñez");
        assert_eq!(cep.xml(), &xml);
    }
}

#[test]
fn optional_values_may_be_missing() {
    for absent in ["Hora=\"10:53:36\"", "sello=\"Wtvk+/==\"", "IVA=\"0.00\"", "Nombre=\"NA\""] {
        with(absent, "").unwrap();
    }
    for (iva, expected) in [("NA", None), ("", None), ("16.5", Some(Decimal::new(165, 1)))] {
        assert_eq!(with("IVA=\"0.00\"", &format!("IVA=\"{iva}\"")).unwrap().iva, expected);
    }
}

#[test]
fn documents_that_are_not_ceps_are_refused() {
    let cases = [
        (
            "SPEI_Tercero FechaOperacion",
            "SPEI_Tercero FechaOperacion=\"2\" FechaOperacion",
            "not well-formed XML",
        ),
        ("</SPEI_Tercero>", "", "unexpected structure: an unclosed element"),
        ("</SPEI_Tercero>", "</SPEI>", "not well-formed XML"),
        ("</SPEI_Tercero>", "</SPEI_Tercero><SPEI_Tercero/>", "unexpected structure: a second root element"),
        ("<Ordenante", "<Emisor", "missing Ordenante"),
        ("<Ordenante", "<Ordenante/><Ordenante", "unexpected structure: a repeated element"),
        ("<Beneficiario", "<Receptor", "missing Beneficiario"),
        ("claveRastreo=", "clave=", "missing claveRastreo"),
        (" Cuenta=\"012180004412345678\"", "", "missing Cuenta"),
        ("MontoPago=\"15000.5\"", "", "missing MontoPago"),
        ("MontoPago=\"15000.5\"", "MontoPago=\"15,000.50\"", "MontoPago is not a number"),
        ("MontoPago=\"15000.5\"", "MontoPago=\"15000.501\"", "MontoPago is not a number"),
        ("MontoPago=\"15000.5\"", "MontoPago=\"1.50005e4\"", "MontoPago is not a number"),
        ("IVA=\"0.00\"", "IVA=\"nada\"", "IVA is not a number"),
        ("&amp;", "&uacute;", "not well-formed XML"),
        ("&amp;", "&", "not well-formed XML"),
    ];
    for (from, to, error) in cases {
        assert_eq!(with(from, to).unwrap_err(), error, "{from} {to}");
    }
    for (xml, error) in [
        ("", "unexpected structure: no root element"),
        ("nada", "unexpected structure: no root element"),
        ("<html><body>Error</body></html>", "missing Ordenante"),
        ("<p>Lo sentimos<br></p>", "not well-formed XML"),
    ] {
        assert_eq!(read(xml).unwrap_err(), error, "{xml}");
    }
}

#[test]
fn declared_entities_deep_nesting_and_long_documents_are_refused() {
    let entities = "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>";
    let cases = [
        (
            REAL.replace("<SPEI_Tercero F", &format!("{entities}<SPEI_Tercero F")),
            "unexpected structure: a document type declaration",
        ),
        (
            REAL.replace("<Ordenante", &format!("{}<Ordenante", "<a>".repeat(100))),
            "unexpected structure: elements nested too deeply",
        ),
        (format!("{REAL}{}", " ".repeat(Cep::MAX_BYTES)), "too long for a CEP"),
    ];
    for (xml, error) in cases {
        assert_eq!(read(xml).unwrap_err(), error);
    }
}

#[test]
fn a_cep_matches_a_payment_by_key_amount_and_account() {
    let cep = read(REAL).unwrap();
    let is_of = |cep: &Cep, asked: String| cep.is_of(&restore(&asked).unwrap());
    assert!(is_of(&cep, ASKED.to_owned()));
    for (from, to, expected) in [
        ("MXBA20250315001234", "mxba20250315001234", true),
        ("MXBA20250315001234", "MXBA20250315001235", false),
        ("15000.50", "15000.51", false),
        ("15000.50", "15000.5", true),
        ("012180004412345678", "002010077777777771", false),
        ("\"clave_rastreo\":\"MXBA20250315001234\"", "\"referencia_numerica\":\"1234567\"", true),
        (",\n    \"cuenta_beneficiaria\":\"012180004412345678\"", "", true),
    ] {
        assert!(ASKED.contains(from), "{from}");
        assert_eq!(is_of(&cep, ASKED.replace(from, to)), expected, "{to}");
    }
    // The CEP of a payment to the bank itself names no account.
    let to_bank = with("Cuenta=\"012180004412345678\"", "Cuenta=\"NA\"").unwrap();
    assert!(is_of(&to_bank, ASKED.to_owned()));
    assert!(!is_of(&to_bank, ASKED.replace("15000.50", "1")));
}
