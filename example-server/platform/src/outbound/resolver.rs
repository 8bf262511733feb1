//! Names, resolved to addresses that may be called and to no others.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Rules;
use super::address::is_public;

/// Who knows the addresses of a name.
#[async_trait]
pub(super) trait Lookup: Send + Sync {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The operating system.
#[derive(Debug)]
pub(super) struct System;

#[async_trait]
impl Lookup for System {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Resolves for the connector, which is given the addresses that passed and connects to one of them: between check and
/// use there is no second question that could be answered otherwise.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) rules: Rules,
}

/// The name is known, but none of its addresses may be called.
#[derive(Debug, thiserror::Error)]
#[error("no public address")]
pub(super) struct Blocked;

/// The name is not known.
#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve")]
pub(super) struct Unknown;

impl Guard {
    /// The addresses of a name that may be called; never none of them.
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
            // Port 0 stands for the one of the URL.
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
