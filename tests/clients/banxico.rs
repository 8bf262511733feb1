//! `cepmex` 1.0.1, a client of Banxico's site: it reads the simulated site, and reads the same as this server does.

use support::{Banxico, SpeiPayment, Standing, Step, Trouble, demo_key, launch, python_test};

/// Runs a test on a site that knows two payments, and a server that asks it.
fn on(banxico: &Banxico, test: &str, variables: &[(&str, &str)]) {
    let base = banxico.base_url();
    let config = format!("[veriko.cep]\nprovider = \"banxico\"\nbase_url = \"{base}\"\n");
    let server = launch().demo().config(&config).start();
    let url = format!("http://{}/v1", server.address);
    let mut test = python_test(&format!("cepmex_banxico.Cepmex.test_{test}"));
    for (name, value) in variables {
        test = test.env(name, value);
    }
    test.env("CEP_BASE_URL", &base).env("VERIKO_BASE_URL", &url).env("VERIKO_API_KEY", &demo_key('1')).run();
}

fn site() -> Banxico {
    let banxico = Banxico::start();
    let payment = SpeiPayment {
        fecha: "15-03-2025".into(),
        clave_rastreo: "MXBA20250315001234".into(),
        referencia: "1234567".into(),
        emisor: "40002".into(),
        receptor: "40012".into(),
        cuenta: "012180004412345678".into(),
        cents: 341_490,
        concepto: "Renta & más <de> \"marzo\"".into(),
        standing: Standing::Cep,
    };
    let identified = SpeiPayment {
        clave_rastreo: "IDENTIFIED".into(),
        standing: Standing::Identified("Liquidado"),
        ..payment.clone()
    };
    banxico.know(payment);
    banxico.know(identified);
    banxico
}

#[test]
fn a_cep_is_read_the_same() {
    on(&site(), "a_cep_is_read_the_same", &[]);
}

#[test]
fn what_is_no_cep_means_the_same() {
    let banxico = site();
    let cases = [
        ("UNKNOWN", "2025-03-15", None, "TransferNotFoundError", "not_found"),
        ("UNKNOWN", "2025-03-16", None, "TransferNotFoundError", "not_found"),
        ("IDENTIFIED", "2025-03-15", None, "CepNotAvailableError", "cep_unavailable"),
        (
            "MXBA20250315001234",
            "2025-03-15",
            Some(Trouble::RateLimited),
            "MaxRequestError",
            "banxico_rate_limit_exhausted",
        ),
        ("MXBA20250315001234", "2025-03-15", Some(Trouble::Status(500)), "CepError", "error"),
    ];
    for (key, day, trouble, raised, status) in cases {
        banxico.trouble(Step::File, trouble);
        let asked = [("ASKED_KEY", key), ("ASKED_DAY", day), ("RAISED", raised), ("STATUS", status)];
        on(&banxico, "what_is_no_cep_means_the_same", &asked);
    }
}
