use super::*;
use crate::payment::restore;

const LIMIT: &str =
    "<h1>Lo sentimos, pero ha excedido el n&uacute;mero m&aacute;ximo de consultas en este portal.</h1>";
const IDENTIFIED: &str =
    "<strong>No es posible. Con la información proporcionada se identificó el siguiente pago:</strong>";

type FormAnswer = Result<Option<Answer>, String>;

fn form(status: u16, page: impl AsRef<[u8]>) -> FormAnswer {
    let page = Page {
        status: StatusCode::from_u16(status).unwrap(),
        body: page.as_ref().to_vec().into(),
        retry_after: None,
    };
    of_form(&page).map_err(|error| error.to_string())
}

fn file(status: u16, file: impl AsRef<[u8]>) -> Result<CepVerdict, String> {
    let asked =
        r#"{"fecha":"2025-03-15","monto":15000.5,"clave_rastreo":"MX1","cuenta_beneficiaria":"5512345678"}"#;
    let page = Page {
        status: StatusCode::from_u16(status).unwrap(),
        body: file.as_ref().to_vec().into(),
        retry_after: None,
    };
    let answer = of_file(page, &restore(asked).unwrap()).map_err(|error| error.to_string())?;
    assert_eq!(
        answer.cep.map(|cep| cep.xml().to_vec()),
        (answer.verdict == CepVerdict::Valid).then(|| file.as_ref().to_vec())
    );
    Ok(answer.verdict)
}

fn cep(key: &str, account: &str, concept: &str) -> String {
    format!(
        "<SPEI_Tercero claveRastreo=\"{key}\"><Beneficiario Cuenta=\"{account}\" Concepto=\"{concept}\" \
         MontoPago=\"15000.5\"/><Ordenante/></SPEI_Tercero>"
    )
}

fn latin_1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

#[test]
fn the_answer_to_the_form_is_recognised_by_its_sentences() {
    let verdict = |verdict| Ok(Some(Answer::from(verdict)));
    let state = |state: &str| {
        format!("{IDENTIFIED}<table><tr><td>Estado del pago en Banxico</td><td>{state}</td></tr></table>")
    };
    let not_found = "No se encontró ningún pago con la información proporcionada";
    let cases: Vec<(u16, Vec<u8>, FormAnswer)> = vec![
        (200, format!("[BE] {not_found}. Verifique").into(), verdict(CepVerdict::NotFound)),
        (200, latin_1(not_found), verdict(CepVerdict::NotFound)),
        (200, "<b>No se\r\n  encontr&oacute;</b>&nbsp;ning&#250;n pago\tcon la <i>informaci&#xF3;n</i>\nproporcionada".into(), verdict(CepVerdict::NotFound)),
        (200, "EL SPEI NO HA RECIBIDO UNA ORDEN DE PAGO QUE CUMPLA CON EL CRITERIO DE BÚSQUEDA ESPECIFICADO".into(), verdict(CepVerdict::NotFound)),
        (200, IDENTIFIED.into(), verdict(CepVerdict::CepUnavailable)),
        (200, state("Liquidado").into(), verdict(CepVerdict::CepUnavailable)),
        (200, format!("{}<h4>Devuelto</h4>", state("En proceso")).into(), verdict(CepVerdict::CepUnavailable)),
        (200, state("Devuelto").into(), verdict(CepVerdict::Returned)),
        (200, state("En proceso de devoluci&oacute;n").into(), verdict(CepVerdict::Returned)),
        (200, LIMIT.into(), verdict(CepVerdict::RateLimited)),
        (503, LIMIT.into(), verdict(CepVerdict::RateLimited)),
        (429, "".into(), verdict(CepVerdict::RateLimited)),
        // Invisible text is ignored.
        (200, format!("<!-- {not_found} --><p>Descargar CEP</p>").into(), Ok(None)),
        (200, format!("<SCRIPT>say('{not_found}')</SCRIPT><style>/*{not_found}*/</style>").into(), Ok(None)),
        (200, format!("<!-- {not_found} --><p>{IDENTIFIED}</p>").into(), verdict(CepVerdict::CepUnavailable)),
        (200, "<a href=\"descarga.do?formato=XML\">XML</a>".into(), Ok(None)),
        (200, "La imagen de seguridad no fue ingresada correctamente".into(), Ok(None)),
        (200, "".into(), Ok(None)),
        (200, "<!-- never closed".into(), Ok(None)),
        (200, "&;&#;&#x110000;&unknown; & &acute; < <".into(), Ok(None)),
        (500, not_found.into(), Err("the status is 500 Internal Server Error".into())),
        (404, "".into(), Err("the status is 404 Not Found".into())),
    ];
    for (status, page, expected) in cases {
        assert_eq!(form(status, &page), expected, "{status} {}", String::from_utf8_lossy(&page));
    }
}

#[test]
fn only_the_cep_of_the_payment_is_valid() {
    let error = |text: &str| Err::<CepVerdict, _>(text.to_owned());
    for (status, body, expected) in [
        (200, cep("MX1", "5512345678", "x"), Ok(CepVerdict::Valid)),
        (
            200,
            cep("MX1", "5512345678", "a > Ha excedido el número máximo de consultas"),
            Ok(CepVerdict::Valid),
        ),
        (200, cep("MX2", "5512345678", "x"), error("the CEP belongs to another payment")),
        (200, cep("MX1", "5512345679", "x"), error("the CEP belongs to another payment")),
        (
            200,
            cep("MX1", "5512345678", "x").replace("15000.5", "15000.51"),
            error("the CEP belongs to another payment"),
        ),
        (200, LIMIT.to_owned(), Ok(CepVerdict::RateLimited)),
        (500, LIMIT.to_owned(), Ok(CepVerdict::RateLimited)),
        (429, String::new(), Ok(CepVerdict::RateLimited)),
        (500, cep("MX1", "5512345678", "x"), error("the status is 500 Internal Server Error")),
        (200, "<html><body>Error</body></html>".to_owned(), error("the file is not a CEP")),
        (200, "%PDF-1.5".to_owned(), error("the file is not a CEP")),
        (200, String::new(), error("the file is not a CEP")),
    ] {
        assert_eq!(file(status, &body), expected, "{status} {body}");
    }
}

#[test]
fn named_and_numeric_character_references_are_decoded() {
    for (text, expected) in [
        ("m&aacute;ximo N&Uacute;MERO", "maximo NUMERO"),
        ("&ntilde;&uuml;&#243;&#xf3;&nbsp;.", "nuóó ."),
        ("a & b &amp c; &hellip; &", "a & b &amp c; &hellip; &"),
        ("&1acute;", "&1acute;"),
    ] {
        assert_eq!(decode_references(text), expected, "{text}");
    }
}
