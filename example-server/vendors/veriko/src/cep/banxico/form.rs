//! The fields of the site's form.

use crate::cep::account::Account;
use crate::cep::bank::Bank;
use crate::cep::payment::{Payment, Reference, TrackingKey};

/// Returns the fields for a payment, in the site's order.
pub(super) fn of(payment: &Payment) -> [(&'static str, String); 10] {
    let (criterion, criterio) = match (payment.clave_rastreo(), payment.referencia_numerica()) {
        (Some(key), _) => ("T", TrackingKey::as_str(key)),
        (None, reference) => ("R", reference.map_or("", Reference::as_str)),
    };
    let code = |bank: Option<&Bank>| bank.map_or("", |bank| bank.spei_code);
    [
        ("tipoCriterio", criterion.to_owned()),
        ("captcha", "c".to_owned()),
        ("tipoConsulta", "1".to_owned()),
        ("fecha", payment.fecha().strftime("%d-%m-%Y").to_string()),
        ("criterio", criterio.to_owned()),
        ("emisor", code(payment.sending_bank()).to_owned()),
        ("receptor", code(payment.receiving_bank()).to_owned()),
        ("cuenta", payment.cuenta_beneficiaria().map_or("", Account::digits).to_owned()),
        ("monto", format!("{:.2}", payment.monto().pesos())),
        ("receptorParticipante", u8::from(payment.is_to_the_bank()).to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::restore;

    fn sent(payment: &str) -> String {
        let form = of(&restore(payment).unwrap());
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish()
    }

    #[test]
    fn the_form_has_the_sites_fields_in_order() {
        let whole = r#"{"fecha":"2025-03-05","monto":15000.5,"clave_rastreo":"MXBA/2025 01","referencia_numerica":"12",
            "emisor":"BANAMEX","receptor":"Banxico","cuenta_beneficiaria":"012180004412345678"}"#;
        assert_eq!(
            sent(whole),
            "tipoCriterio=T&captcha=c&tipoConsulta=1&fecha=05-03-2025&criterio=MXBA%2F2025+01&emisor=40002&\
             receptor=2001&cuenta=012180004412345678&monto=15000.50&receptorParticipante=0"
        );
    }

    #[test]
    fn without_a_key_the_reference_is_sent_and_unknown_fields_are_empty() {
        let little = r#"{"fecha":"2025-12-31","monto":1,"referencia_numerica":"0000012"}"#;
        assert_eq!(
            sent(little),
            "tipoCriterio=R&captcha=c&tipoConsulta=1&fecha=31-12-2025&criterio=0000012&emisor=&receptor=&cuenta=&\
             monto=1.00&receptorParticipante=0"
        );
        let account = r#"{"fecha":"2025-12-31","monto":999999999999.99,"clave_rastreo":"Ñ&1","receptor_participante":1,
            "cuenta_beneficiaria":"012180004412345678"}"#;
        assert!(
            sent(account).contains("criterio=%C3%91%261&emisor=&receptor=40012&cuenta=012180004412345678")
        );
        assert!(sent(account).ends_with("&monto=999999999999.99&receptorParticipante=1"));
    }
}
