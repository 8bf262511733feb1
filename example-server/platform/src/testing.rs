//! Fixtures for the tests of the platform and of the vendors.

mod vendor;

use std::sync::Arc;

use http::HeaderMap;

use crate::config::{ConfigError, ConfigFile};
use crate::db::{Database, Storage};
use crate::encryption::Sealer;
use crate::outbound::{Outbound, Rules};
use crate::stack::ApiBuilder;
use crate::state::Platform;
use crate::webhooks::Webhooks;

pub use self::vendor::Acme;

/// Returns a demo platform on this database. Its sealing key is fixed and not secret.
pub fn platform(database: &Database) -> Platform {
    let sealer = Arc::new(Sealer::new(Some(&"1".repeat(64).into()), None).expect("digits make a key"));
    Platform::new(database.clone(), Storage::Memory, sealer, 16, true)
}

/// Reads a configuration file with this content over these defaults.
///
/// # Errors
///
/// As for [`ConfigFile::read`].
pub fn config(defaults: &[&str], content: &str) -> Result<ConfigFile, ConfigError> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("example-server-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, content).expect("the temporary folder takes files");
    let config = ConfigFile::read(Some(&path), defaults);
    std::fs::remove_file(&path).expect("it was written");
    config
}

/// Returns webhooks that may call any address and send no signature headers.
pub fn webhooks(platform: &Platform) -> Webhooks {
    let rules = Rules { allow_http: true, allow_private: true };
    let section = "allow_http = false\nallow_private = false\nretry_delays_seconds = [60]\n\
                   auto_disable_after = 3\nmax_endpoints = 10\ntimeout_seconds = 10\n";
    let config = config(&[&format!("[webhooks]\n{section}")], "").expect("it is in order");
    let config = config.section("webhooks").expect("it is in order");
    Webhooks::new(platform, rules, &config, |_, _, _| HeaderMap::new()).expect("a client")
}

/// Returns a client that calls public addresses only.
pub fn outbound() -> Outbound {
    Outbound::new(Rules { allow_http: false, allow_private: false }).expect("a client")
}

/// Returns a builder of APIs on this platform.
pub fn api_builder(platform: &Platform) -> ApiBuilder {
    let sections = "[idempotency]\nttl_seconds = 86400\nlease_seconds = 30\nwait_seconds = 0\n\
                    max_body_bytes = 262144\n[limits]\nlarge_bodies = 8\nconnections_per_peer = 240\n";
    let config = config(&[sections], "").expect("it is in order");
    let limits = config.section("limits").expect("it is in order");
    ApiBuilder::new(config.section("idempotency").expect("it is in order"), &limits, platform)
}
