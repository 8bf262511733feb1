//! Contracts: what an API promises about its keys.

mod classifier;
mod grpc;
mod header_set;
mod ietf;
mod json;
mod mintfax;
#[cfg(test)]
mod rejection_tests;
mod stripe;
mod txcloud;
mod veriko;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};

pub use self::classifier::{Classifier, Disposition};
use self::header_set::HeaderSet;
use crate::fingerprint::FingerprintMode;
use crate::key::{Bind, Key, KeySyntax};
use crate::rejection::{Rejection, RejectionKind};

/// What an API promises about its idempotency keys.
///
/// A contract states what a key looks like, what it is bound to, which requests and responses it
/// concerns, and how rejections are written. Start from a preset. Every setter takes the contract
/// by value and returns it:
///
/// ```
/// use std::time::Duration;
///
/// use http::{HeaderName, Method, StatusCode};
/// use idempotency_layer::{Bind, Classifier, Contract, FingerprintMode, KeySyntax};
///
/// let contract = Contract::ietf()
///     .header(HeaderName::from_static("x-request-key"))
///     .key(KeySyntax::token(16..=64))
///     .required()
///     .methods(&[Method::POST])
///     .bind(Bind::Endpoint)
///     .fingerprint(FingerprintMode::Canonical)
///     .in_progress(StatusCode::TOO_EARLY)
///     .stores(Classifier::success())
///     .ttl(Duration::from_secs(7 * 24 * 60 * 60))
///     .documentation(http::Uri::from_static("https://api.example.com/docs/retries"));
/// ```
///
/// | | [`veriko`](Self::veriko) | [`mintfax`](Self::mintfax) | [`txcloud`](Self::txcloud) | [`ietf`](Self::ietf) | [`stripe`](Self::stripe) |
/// |---|---|---|---|---|---|
/// | key | 1–255 `A-Za-z0-9_-` | 1–255 characters | 10–255 `A-Za-z0-9_:-` | quoted String, 1–255 | 1–255 characters |
/// | invalid | 400 | 422 | 400 | 400 | 400 |
/// | missing | passes | passes | passes | passes, or 400 when [`required`](Self::required) | passes |
/// | methods | any | POST | any | POST, PATCH | POST |
/// | bound to | principal, endpoint | principal | principal, endpoint | principal, endpoint | principal |
/// | compared | body | nothing | body | body | body |
/// | other request | 422 | replays | 409 | 422 | 400 |
/// | in progress | 409 | 409 | 409 | 409 | 409 |
/// | stored | below 500, but 401 408 425 429 | 2xx | below 500, but 401 408 425 429 | below 500, but 401 408 425 429 | everything |
/// | replayed | `Idempotent-Replayed: true`, fresh `false` | `Idempotency-Replayed: true`, key echoed | `Idempotent-Replayed: true` | `Idempotent-Replayed: true` | `Idempotent-Replayed: true` |
/// | error body | `{"errors":[…]}` | `{"error":"…"}` | `{"error":{…}}` | `application/problem+json` | `{"error":{…}}` |
/// | kept for | 24 h | 24 h | 24 h | 24 h | 24 h |
///
/// "Compared" names what must be equal for a retry to be the same request, besides method, path and
/// query. [`grpc`](Self::grpc), for gRPC services, has its own tables.
#[derive(Clone)]
pub struct Contract {
    pub(crate) header: HeaderName,
    pub(crate) key: KeySyntax,
    pub(crate) required: bool,
    /// `None` means every method.
    pub(crate) methods: Option<Vec<Method>>,
    pub(crate) bind: Bind,
    pub(crate) fingerprint: FingerprintMode,
    pub(crate) invalid: StatusCode,
    pub(crate) reused: StatusCode,
    pub(crate) in_progress: StatusCode,
    pub(crate) stores: Classifier,
    pub(crate) mark: ReplayMark,
    pub(crate) echo: Option<HeaderName>,
    pub(crate) omitted: HeaderSet,
    pub(crate) ttl: Duration,
    pub(crate) documentation: Option<Uri>,
    pub(crate) render: Render,
}

pub(crate) type Render = Arc<dyn Fn(&Rejection) -> Response<Bytes> + Send + Sync>;

/// The header that marks a replay.
///
/// ```
/// use http::HeaderName;
/// use idempotency_layer::{Contract, ReplayMark};
///
/// let mark = ReplayMark::new(HeaderName::from_static("idempotent-replayed")).or_false();
/// let contract = Contract::ietf().mark(mark);
/// ```
#[derive(Clone, Debug)]
pub struct ReplayMark {
    header: HeaderName,
    says_false: bool,
}

impl ReplayMark {
    /// Sets `header: true` on a replay.
    pub const fn new(header: HeaderName) -> Self {
        Self { header, says_false: false }
    }

    /// Sets `header: false` on every other response to a keyed request.
    #[must_use]
    pub const fn or_false(mut self) -> Self {
        self.says_false = true;
        self
    }
}

/// The header that most clients send.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header with which most APIs mark a replay.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The headers that are never replayed, because they belong to one connection, moment, session or
/// login (RFC 9110, sections 7.6.1, 6.6.1 and 11; RFC 6265).
const OMITTED: [HeaderName; 13] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::DATE,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("authentication-info"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Contract {
    /// Returns the settings that the presets share. Rejections are problem details (RFC 9457).
    fn base() -> Self {
        Self {
            header: IDEMPOTENCY_KEY,
            key: KeySyntax::opaque(1..=255),
            required: false,
            methods: None,
            bind: Bind::Endpoint,
            fingerprint: FingerprintMode::Raw,
            invalid: StatusCode::BAD_REQUEST,
            reused: StatusCode::UNPROCESSABLE_ENTITY,
            in_progress: StatusCode::CONFLICT,
            stores: Classifier::final_answers(),
            mark: ReplayMark::new(IDEMPOTENT_REPLAYED),
            echo: None,
            omitted: OMITTED.into_iter().collect(),
            ttl: DAY,
            documentation: None,
            render: Arc::new(ietf::problem),
        }
    }

    /// Sets the header that holds the key: `Idempotency-Key` in every preset.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Sets what a valid key looks like.
    #[must_use]
    pub fn key(mut self, syntax: KeySyntax) -> Self {
        self.key = syntax;
        self
    }

    /// Refuses a request without a key with 400. Otherwise such a request passes unprotected.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Sets the methods that the layer looks at. On other methods the header means nothing, and
    /// handlers are offered no transaction.
    #[must_use]
    pub fn methods(mut self, methods: &[Method]) -> Self {
        self.methods = Some(methods.to_vec());
        self
    }

    /// Sets what a key is bound to besides the principal.
    #[must_use]
    pub fn bind(mut self, bind: Bind) -> Self {
        self.bind = bind;
        self
    }

    /// Sets how requests with the same key are compared. With [`FingerprintMode::None`] the layer
    /// does not read the body.
    #[must_use]
    pub fn fingerprint(mut self, mode: FingerprintMode) -> Self {
        self.fingerprint = mode;
        self
    }

    /// Sets the status for an invalid key.
    #[must_use]
    pub fn invalid(mut self, status: StatusCode) -> Self {
        self.invalid = status;
        self
    }

    /// Sets the status for a key that was used for another request.
    #[must_use]
    pub fn reused(mut self, status: StatusCode) -> Self {
        self.reused = status;
        self
    }

    /// Sets the status while another request with the key is running.
    #[must_use]
    pub fn in_progress(mut self, status: StatusCode) -> Self {
        self.in_progress = status;
        self
    }

    /// Sets which responses are stored.
    #[must_use]
    pub fn stores(mut self, classifier: Classifier) -> Self {
        self.stores = classifier;
        self
    }

    /// Sets the header that marks a replay.
    #[must_use]
    pub fn mark(mut self, mark: ReplayMark) -> Self {
        self.mark = mark;
        self
    }

    /// Repeats the key in this header of every response to a request with a valid key.
    #[must_use]
    pub fn echo(mut self, name: HeaderName) -> Self {
        self.echo = Some(name);
        self
    }

    /// Excludes a header of the response from the record, such as the remaining requests of a rate
    /// limit.
    #[must_use]
    pub fn omit_header(mut self, name: HeaderName) -> Self {
        self.omitted.insert(name);
        self
    }

    /// Stores a header that presets exclude, such as `Date`, `Set-Cookie`, or a header of
    /// authentication.
    #[must_use]
    pub fn keep_header(mut self, name: &HeaderName) -> Self {
        self.omitted.remove(name);
        self
    }

    /// Sets how long a record is kept after its first claim: 24 h in every preset.
    ///
    /// It must be longer than a handler can take. A record that expires before it is completed
    /// replays nothing.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the page where clients read about keys. Every rejection carries
    /// `Link: <uri>; rel="describedby"`, and problem details carry the URI as their `type`.
    #[must_use]
    pub fn documentation(mut self, uri: Uri) -> Self {
        self.documentation = Some(uri);
        self
    }

    /// Sets the function that renders a rejection as a response. The layer adds `Retry-After`, the
    /// link to the documentation, the replay mark and the echo.
    #[must_use]
    pub fn rejection(
        mut self,
        render: impl Fn(&Rejection) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.render = Arc::new(render);
        self
    }

    pub(crate) fn concerns(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    pub(crate) fn keeps_header(&self, name: &HeaderName) -> bool {
        !self.omitted.contains(name)
    }

    /// Makes a rejection with the status that this contract gives to its kind.
    pub(crate) fn reject(&self, kind: RejectionKind) -> Rejection {
        let status = match kind {
            RejectionKind::KeyMissing | RejectionKind::BodyUnreadable => StatusCode::BAD_REQUEST,
            RejectionKind::KeyInvalid(_) => self.invalid,
            RejectionKind::KeyReused => self.reused,
            RejectionKind::InProgress => self.in_progress,
            RejectionKind::Tombstone(_) => StatusCode::CONFLICT,
            RejectionKind::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            RejectionKind::ScopeMissing
            | RejectionKind::Misconfigured
            | RejectionKind::ResponseUnreadable => StatusCode::INTERNAL_SERVER_ERROR,
            RejectionKind::Overloaded
            | RejectionKind::StoreUnavailable
            | RejectionKind::NotRecorded
            | RejectionKind::RolledBack
            | RejectionKind::CommitUnknown => StatusCode::SERVICE_UNAVAILABLE,
        };
        Rejection::new(kind, status, self.header.clone(), self.documentation.clone())
    }

    /// Renders a rejection and adds the contract's headers.
    pub(crate) fn answer(&self, rejection: Rejection, key: Option<&Key>) -> Response<Bytes> {
        let mut response = (self.render)(&rejection);
        let headers = response.headers_mut();
        if let Some(seconds) = rejection.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(uri) = rejection.documentation()
            // A `Uri` consists of visible ASCII, so this is always a valid header value.
            && let Ok(link) = HeaderValue::try_from(format!("<{uri}>; rel=\"describedby\""))
        {
            headers.append(header::LINK, link);
        }
        if rejection.kind() != RejectionKind::KeyMissing {
            self.mark_answer(headers, key, false);
        }
        response.extensions_mut().insert(rejection);
        response
    }

    /// Sets the replay mark and the echo on the response to a keyed request.
    pub(crate) fn mark_answer(&self, headers: &mut HeaderMap, key: Option<&Key>, replayed: bool) {
        if replayed || self.mark.says_false {
            let value = if replayed { "true" } else { "false" };
            headers.insert(self.mark.header.clone(), HeaderValue::from_static(value));
        } else {
            // The handler may pass on another service's response with its own mark.
            headers.remove(&self.mark.header);
        }
        if let (Some(name), Some(key)) = (&self.echo, key) {
            headers.insert(name.clone(), key.as_header().clone());
        }
    }
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract")
            .field("header", &self.header)
            .field("key", &self.key)
            .field("required", &self.required)
            .field("methods", &self.methods)
            .field("bind", &self.bind)
            .field("fingerprint", &self.fingerprint)
            .field("invalid", &self.invalid)
            .field("reused", &self.reused)
            .field("in_progress", &self.in_progress)
            .field("stores", &self.stores)
            .field("mark", &self.mark)
            .field("echo", &self.echo)
            .field("omitted", &self.omitted.names())
            .field("ttl", &self.ttl)
            .field("documentation", &self.documentation)
            .finish_non_exhaustive()
    }
}
