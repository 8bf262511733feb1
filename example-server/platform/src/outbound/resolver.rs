//! A DNS resolver that returns permitted addresses only.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Rules;
use super::address::is_public;

/// A source of the addresses of a name.
#[async_trait]
pub(super) trait Lookup: Send + Sync {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the operating system.
#[derive(Debug)]
pub(super) struct System;

#[async_trait]
impl Lookup for System {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// The resolver of the connector. It returns the addresses that passed the check, and the connector
/// uses one of them. There is no second lookup between check and use that could give another result
/// (DNS rebinding).
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) rules: Rules,
}

/// The name resolves, but to no permitted address.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
pub(super) struct Blocked;

/// The name does not resolve.
#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve")]
pub(super) struct Unknown;

impl Guard {
    /// Returns the permitted addresses of a name, at least one.
    pub(super) async fn addresses(
        &self,
        name: &str,
    ) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let Ok(mut addresses) = self.lookup.lookup(name).await else { return Err(Unknown.into()) };
        if addresses.is_empty() {
            return Err(Unknown.into());
        }
        addresses.retain(|address| self.rules.allow_private || is_public(*address));
        if addresses.is_empty() { Err(Blocked.into()) } else { Ok(addresses) }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = guard.addresses(name.as_str()).await?;
            // Port 0 stands for the port of the URL.
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
