//! The TLS configuration of all outgoing connections.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};

/// Returns the builder of an HTTP client with this program's TLS configuration.
pub fn client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(config())
}

/// Returns a configuration that trusts the root certificates of the operating system, or those of
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` if they are set.
fn config() -> ClientConfig {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    CONFIG.get_or_init(load).clone()
}

fn load() -> ClientConfig {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (known, _) = roots.add_parsable_certificates(found.certs);
    if known == 0 {
        // Not an error: a server without outgoing calls needs none.
        tracing::warn!("found no root certificates; every call over https will fail");
    }
    // Passed here instead of installed for the process, where the first installation would win.
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
