//! TLS towards others, in one place.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};

/// A client that speaks TLS as this program does.
pub fn client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(config())
}

/// Trusts whom the operating system trusts, or `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set.
fn config() -> ClientConfig {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    CONFIG.get_or_init(load).clone()
}

fn load() -> ClientConfig {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (known, _) = roots.add_parsable_certificates(found.certs);
    if known == 0 {
        // No reason not to start: a server that calls nobody needs none.
        tracing::warn!("this machine has no root certificates: every call over https will fail");
    }
    // Named here, not installed for the process: which provider is used does not depend on who came first.
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
