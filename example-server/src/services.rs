//! The public service, and the one for operators.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use platform::config::Limits;
use platform::host::{self, Hosts};
use platform::server::{self, Service};
use platform::stack::BuiltApi;
use platform::{openapi, response_headers};

use crate::options::Options;
use crate::{documents, router};

/// What the server serves, on each of its addresses.
pub(crate) struct Services {
    /// The APIs, their documents and the health. Without an admin address, the metrics too.
    pub(crate) public: Service,
    /// The health and the metrics, if there is an admin address.
    pub(crate) admin: Option<Service>,
}

impl Services {
    pub(crate) fn new(
        options: &Options,
        limits: &Limits,
        health: &Router,
        metrics: Router,
        apis: Vec<BuiltApi>,
    ) -> Self {
        let hosts = if options.demo { Hosts::Loopback } else { Hosts::All };
        let service = |router: Router| {
            let checked = |router: Router| {
                router.layer(from_fn_with_state(hosts, host::check)).layer(from_fn(response_headers::protect))
            };
            Service {
                router: checked(router),
                reserve: checked(health.clone().fallback(async || server::too_many_connections())),
                connections_per_peer: limits.connections_per_peer,
            }
        };
        let public = health.clone().merge(openapi::routes(&documents()));
        let (public, admin) = match options.admin_listen {
            Some(_) => (public, Some(service(health.clone().merge(metrics)))),
            None => (public.merge(metrics), None),
        };
        Self { public: service(router::router(public, apis)), admin }
    }
}
