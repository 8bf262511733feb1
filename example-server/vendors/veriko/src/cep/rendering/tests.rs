use super::*;

/// A CEP with this name and this sealed string.
fn cep(nombre: &str, cadena: &str) -> Cep {
    let xml = format!(
        "<SPEI_Tercero FechaOperacion=\"2025-03-15\" Hora=\"10:53:36\" ClaveSPEI=\"40012\" sello=\"{}\" \
         numeroCertificado=\"00001000000512345678\" cadenaCDA=\"{cadena}\" claveRastreo=\"MXBA20250315001234\">\
         <Beneficiario BancoReceptor=\"BBVA\" Nombre=\"{nombre}\" TipoCuenta=\"40\" Cuenta=\"012180004412345678\" \
         RFC=\"ND\" Concepto=\"Pago\" IVA=\"0\" MontoPago=\"15000.5\"/><Ordenante BancoEmisor=\"Banamex\"/></SPEI_Tercero>",
        "S".repeat(344),
    );
    Cep::parse(xml).unwrap()
}

/// Returns the objects of a file as a reader finds them: from its end, through the cross-reference
/// table.
fn objects(pdf: &[u8]) -> Vec<&[u8]> {
    let find = |from: usize, what: &[u8]| {
        from + pdf[from..].windows(what.len()).position(|window| window == what).unwrap()
    };
    assert!(pdf.starts_with(b"%PDF-") && pdf.trim_ascii_end().ends_with(b"%%EOF"));
    let text = String::from_utf8_lossy(pdf);
    let (_, tail) = text.rsplit_once("startxref").unwrap();
    let table: usize = tail.split_whitespace().next().unwrap().parse().unwrap();
    assert!(pdf[table..].starts_with(b"xref"));
    let table = String::from_utf8_lossy(&pdf[table..]).into_owned();
    let entries: Vec<_> = table.lines().skip(2).take_while(|line| !line.starts_with("trailer")).collect();
    entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.contains('n'))
        .map(|(number, entry)| {
            let place: usize = entry.split(' ').next().unwrap().parse().unwrap();
            assert!(pdf[place..].starts_with(format!("{number} 0 obj").as_bytes()), "{entry}");
            &pdf[place..find(place, b"endobj")]
        })
        .collect()
}

/// Returns the text of the pages, one string a line, in the fonts' character set.
fn written(pdf: &[u8]) -> String {
    let pages: Vec<_> =
        objects(pdf).into_iter().filter(|object| object.windows(6).any(|w| w == b"stream")).collect();
    pages
        .iter()
        .flat_map(|page| page.split(|byte| *byte == b'\n'))
        .filter_map(|line| line.strip_suffix(b" Tj").map(shown))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Decodes a PDF string, in its literal (ASCII) or hexadecimal form.
fn shown(string: &[u8]) -> String {
    let text: String = string.iter().copied().map(char::from).collect();
    let hex = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
    match text.strip_prefix('<').and_then(|text| text.strip_suffix('>')) {
        Some(digits) => digits.as_bytes().chunks(2).map(|digits| char::from(hex(digits))).collect(),
        None => text[1..text.len() - 1].replace("\\(", "(").replace("\\)", ")"),
    }
}

#[test]
fn a_page_shows_every_value_and_says_that_it_is_a_rendering() {
    let pdf = pdf(&cep("José Núñez", "||1|15032025|"));
    let written = written(&pdf);
    for shown in [
        "Comprobante Electrónico de Pago (CEP)",
        "No es el documento de",
        "2025-03-15",
        "10:53:36",
        "MXBA20250315001234",
        "15000.50",
        "0.00",
        "José Núñez",
        "BBVA",
        "Banamex",
        "012180004412345678",
        "00001000000512345678",
        "||1|15032025|",
    ] {
        assert!(written.lines().any(|line| line.contains(shown)), "{shown}: {written}");
    }
    let seal: String = written.lines().filter(|line| line.starts_with("SS")).collect();
    assert_eq!(seal, "S".repeat(344));
}

#[test]
fn the_same_cep_makes_the_same_file() {
    let cep = cep("José", "x");
    assert_eq!(pdf(&cep), pdf(&cep));
}

#[test]
fn long_values_are_wrapped_and_nothing_is_lost() {
    let cadena = "0123 456789|".repeat(2000);
    let nombre = "PALABRA ".repeat(500);
    let pdf = pdf(&cep(&nombre, &cadena));
    let written = written(&pdf);
    assert!(written.lines().all(|line| line.chars().count() <= 91), "{written}");
    assert!(written.replace('\n', "").contains(&cadena));
    assert_eq!(written.matches("PALABRA").count(), 500);
    let pages = objects(&pdf).iter().filter(|object| object.windows(9).any(|w| w == b"/MediaBox")).count();
    assert!(pages > 2, "{pages}");
}

#[test]
fn lines_break_between_words_and_within_those_that_are_too_long() {
    let lines = |text: &str| wrapped(text, 5.0 * SIZE * ADVANCE + 1.0).collect::<Vec<_>>();
    assert_eq!(lines("uno dos tres"), ["uno", "dos", "tres"]);
    assert_eq!(lines("a b c d e"), ["a b c", "d e"]);
    assert_eq!(lines("12345"), ["12345"]);
    assert_eq!(lines("1234567890123"), ["12345", "67890", "123"]);
    assert_eq!(lines("12345 67"), ["12345", "67"]);
    assert_eq!(lines("  a  "), ["a"]);
    assert_eq!(lines(""), [] as [&str; 0]);
}

#[test]
fn characters_that_the_fonts_lack_are_question_marks() {
    assert_eq!(win_ansi("ñÑ€–Ж\n"), b"\xF1\xD1\x80\x96? ");
}
