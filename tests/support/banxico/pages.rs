//! The pages and files of the site.
//!
//! The sentences that clients depend on are the real ones. The rest has about the size of the real
//! pages.

use super::SpeiPayment;

/// No payment on this day.
pub(super) fn no_payment() -> String {
    error("[BE] No se encontró ningún pago con la información proporcionada. Verifique e intente nuevamente.")
}

/// No matching payment on a day that has others. The real page has the sentence in a comment, too.
pub(super) fn no_order() -> String {
    let sentence = "Lo sentimos, por el momento no es posible generar el CEP. Operación no encontrada. El SPEI no ha recibido \
        una orden de pago que cumpla con el criterio de búsqueda especificado. Se recomienda verificar la información.";
    state_of_payment(&format!(
        "<!-- <strong>{sentence}</strong> -->\r\n<center><strong>{sentence}</strong></center>"
    ))
}

/// A payment without a CEP, with its state.
pub(super) fn identified(payment: &SpeiPayment, state: &str) -> String {
    let sentence = "Lo sentimos, por el momento no es posible generar el CEP. Con la información proporcionada se identificó el \
        siguiente pago:";
    state_of_payment(&format!(
        "<!-- <strong>{sentence}</strong> -->\r\n<center><strong>{sentence}</strong></center>\r\n<table id=\"xxx\"><tbody>\
         <tr><td>Clave de Rastreo</td><td>{}</td></tr>\r\n\
         <tr><td>Estado del pago en Banxico</td><td>{state}</td></tr>\r\n</tbody></table>\r\n\
         <div class=\"descripcion oculta\"><h4>En proceso de devoluci&oacute;n</h4><h4>Devuelto</h4></div>",
        payment.clave_rastreo
    ))
}

/// A payment with a CEP.
pub(super) fn found() -> String {
    "\n<div class=\"bg-banxico title-bar\">\n Descargar CEP\n</div>\n<h2>Gracias por utilizar el servicio de descarga de CEP</h2>\n\
     Haga clic sobre el &iacute;cono para descargar el CEP.<br />\n<a href=\"descarga.do?formato=PDF\">PDF</a>\n\
     <a href=\"descarga.do?formato=XML\">XML</a>\n<a href=\"descarga.do?formato=ZIP\">ZIP</a>\n"
        .to_owned()
}

/// The page for a client that made too many requests.
pub(super) fn too_often() -> String {
    "<!DOCTYPE html>\n<html lang=\"es\"><head><title>Comprobante Electr&oacute;nico de Pago</title></head><body>\n\
     <h1>Lo sentimos, pero ha excedido el n&uacute;mero m&aacute;ximo de consultas en este portal. Favor de intentar nuevamente \
     m&aacute;s tarde.</h1>\n</body></html>"
        .to_owned()
}

pub(super) fn error(sentence: &str) -> String {
    format!(
        "\r\n<div class=\"title-bar\">Error</div>\r\n<div id=\"#error_div\">\r\n<p>\r\n {sentence}\r\n</p></div>\r\n"
    )
}

fn state_of_payment(content: &str) -> String {
    format!(
        "\n<meta charset=\"utf-8\" />\n<style type=\"text/css\">/* Se cambia versión */</style>\r\n\
         <div class=\"title-bar\">Informaci&oacute;n del estado del pago</div>\r\n<div id=\"consultaMISPEI\">{content}</div>\r\n"
    )
}

/// Returns the CEP of a payment.
pub(super) fn xml(payment: &SpeiPayment) -> Vec<u8> {
    let SpeiPayment { fecha, clave_rastreo, receptor, cuenta, concepto, .. } = payment;
    let (iso, days) = (fecha.split('-').rev().collect::<Vec<_>>().join("-"), fecha.replace('-', ""));
    // Like the real ones, an amount has no trailing zero.
    let monto = format!("{}.{:02}", payment.cents / 100, payment.cents % 100);
    let monto = monto.strip_suffix('0').unwrap_or(&monto);
    let (concepto, clave) = (escaped(concepto), escaped(clave_rastreo));
    let (certificate, sello) = ("00001000000512345678", "c2VsbG8gZGUgcHJ1ZWJh+/==");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<SPEI_Tercero FechaOperacion=\"{iso}\" Hora=\"10:53:36\" \
         ClaveSPEI=\"{receptor}\" sello=\"{sello}\" numeroCertificado=\"{certificate}\" \
         cadenaCDA=\"||1|{days}|{days}|105336|{receptor}|Emisor|José Núñez|40|002180012345678906|XAXX010101000|Receptor|\
         Persona de Ejemplo|40|{cuenta}|ND|{concepto}|0.00|{monto}|NA|NA|0|0|NA|0|0.00|NA|NA|NA|NA|NA|NA|NA|NA|NA|NA|NA|NA|\
         NA|NA|NA|NA|NA|{certificate}||{sello}\" claveRastreo=\"{clave}\">\r\n    <Beneficiario \
         BancoReceptor=\"Receptor\" Nombre=\"Persona de Ejemplo\" TipoCuenta=\"40\" Cuenta=\"{cuenta}\" RFC=\"ND\" \
         Concepto=\"{concepto}\" IVA=\"0.00\" MontoPago=\"{monto}\"/>\r\n    <Ordenante BancoEmisor=\"Emisor\" \
         Nombre=\"José Núñez\" TipoCuenta=\"40\" Cuenta=\"002180012345678906\" RFC=\"XAXX010101000\"/>\r\n</SPEI_Tercero>"
    )
    .into_bytes()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
