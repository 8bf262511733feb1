use super::*;

fn found(rows: &[&str]) -> Receipt {
    Receipt::find(&rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>())
}

/// Date, amount in cents, tracking key, reference, account, sending and receiving bank.
type Shown<'a> = (
    Option<&'a str>,
    Option<i64>,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a str>,
);

#[track_caller]
fn assert_found(rows: &[&str], expected: Shown<'_>) {
    let receipt = found(rows);
    let fecha = receipt.fecha.map(|date| date.to_string());
    let shown = (
        fecha.as_deref(),
        receipt.monto.map(Amount::cents),
        receipt.clave_rastreo.as_ref().map(TrackingKey::as_str),
        receipt.referencia_numerica.as_ref().map(Reference::as_str),
        receipt.cuenta_beneficiaria.as_ref().map(Account::digits),
        receipt.emisor.map(|bank| bank.spei_code),
        receipt.receptor.map(|bank| bank.spei_code),
    );
    assert_eq!(shown, expected);
}

#[test]
fn a_receipt_with_values_to_the_right_of_their_labels() {
    assert_found(
        &[
            "BBVA",
            "Comprobante de transferencia SPEI",
            "Fecha de operación 15/03/2025 14:22",
            "Monto $15,000.50 MXN",
            "Cuenta origen 4111 1111 1111 1111",
            "Cuenta destino 0121 8000 4412 3456 78",
            "Banco emisor: BANAMEX",
            "Banco receptor: BBVA MEXICO S.A.",
            "Clave de rastreo MXBA20250315001234",
            "Referencia numérica 1234567",
        ],
        (
            Some("2025-03-15"),
            Some(1_500_050),
            Some("MXBA20250315001234"),
            Some("1234567"),
            Some("012180004412345678"),
            Some("40002"),
            Some("40012"),
        ),
    );
}

#[test]
fn a_receipt_with_values_below_their_labels() {
    assert_found(
        &[
            "Transferencia exitosa",
            "$8,500.00",
            "Fecha",
            "3 de enero de 2025, 10:15 h",
            "CLABE",
            "002010077777777771",
            "Institución receptora",
            "Banamex",
            "Clave de rastreo:",
            "MBAN01002501031015ABCDEF",
            "No. de referencia:",
            "0000012",
        ],
        (
            Some("2025-01-03"),
            Some(850_000),
            Some("MBAN01002501031015ABCDEF"),
            Some("0000012"),
            Some("002010077777777771"),
            None,
            Some("40002"),
        ),
    );
}

#[test]
fn a_senders_account_or_a_misread_one_is_ignored() {
    let nothing = (None, None, None, None, None, None, None);
    assert_found(&["Cuenta ordenante 012180004412345678"], nothing);
    assert_found(&["Cuenta origen", "Cuenta CLABE emisora: 012180004412345678"], nothing);
    assert_found(&["CLABE 012180004412345679"], nothing);
    assert_found(&["Cuenta destino **** 5678"], nothing);
    assert_found(&["Folio 4111111111111111"], nothing);
    assert_found(
        &["A la cuenta 012180004412345678"],
        (None, None, None, None, Some("012180004412345678"), None, None),
    );
    assert_found(&["012180004412345678"], (None, None, None, None, Some("012180004412345678"), None, None));
}

#[test]
fn a_receipt_without_values_is_empty() {
    for rows in
        [&[][..], &["Hola", "Fecha", "Monto $", "Clave de rastreo", "Banco emisor: X"], &["", "ñ$", "—"]]
    {
        assert_eq!(found(rows), Receipt::default(), "{rows:?}");
    }
}

#[test]
fn dates_are_read_in_many_formats() {
    for (text, expected) in [
        ("2025-03-15", Some("2025-03-15")),
        ("15/03/2025", Some("2025-03-15")),
        ("15-03-25", Some("2025-03-15")),
        ("15/mar/2025", Some("2025-03-15")),
        ("Sábado 15 de marzo de 2025", Some("2025-03-15")),
        ("15 septiembre 2025 18:00:01", Some("2025-09-15")),
        ("15 de marzo del 2025", Some("2025-03-15")),
        ("31/02/2025", None),
        ("03/15/2025", None),
        ("15/03/1999", None),
        ("14:22:10", None),
        ("15/03", None),
    ] {
        assert_eq!(date(text).map(|date| date.to_string()).as_deref(), expected, "{text}");
    }
}

#[test]
fn amounts_are_read_in_many_formats() {
    for (text, cents) in [
        ("$15,000.50", Some(1_500_050)),
        (": $ 15,000.50 MXN", Some(1_500_050)),
        ("15000.5", Some(1_500_050)),
        ("1,234,567.89 M.N.", Some(123_456_789)),
        ("$8,500.", Some(850_000)),
        ("$0.00", None),
        ("$", None),
        ("quince", None),
        ("$15.000.50", None),
    ] {
        assert_eq!(amount(text).map(Amount::cents), cents, "{text}");
    }
}

#[test]
fn a_label_must_be_whole_words() {
    assert_eq!(found(&["Subtotal 3", "TotalX 4"]).monto, None);
    assert_eq!(found(&["Clave_de.rastreo: ABC-123"]).clave_rastreo, TrackingKey::parse("ABC-123"));
    assert_eq!(found(&["Clave de rastreo de la operación", "ABC123"]).clave_rastreo, None);
    assert_eq!(found(&["Rastreo ABCDEFG"]).clave_rastreo, None, "a word without a digit is not a key");
}

#[test]
fn no_rows_make_the_finder_panic() {
    use proptest::prelude::*;
    proptest!(|(rows in prop::collection::vec(r"(Fecha|Monto|Clave de rastreo|CLABE|\$|[0-9áÑ,./ :-]{0,6}|\PC{0,4}){0,5}", 0..5))| {
        Receipt::find(&rows);
    });
}
