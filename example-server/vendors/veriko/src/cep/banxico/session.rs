//! One session with the site, with cookies of its own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::cookie::{CookieStore, Jar};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

use super::QueryError;
use platform::retry_after;

/// A session. Sessions share the connections but not the cookies, because the site identifies the
/// payment by them.
pub(super) struct Session<'a> {
    client: &'a Client,
    base: &'a Url,
    cookies: Jar,
}

/// An answer of the site.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// How long the site asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// The maximum length of an answer. A real page has about 20 KB.
const MAX_BYTES: usize = 1024 * 1024;
/// The maximum number of redirects. The one from `http` to `https` counts.
const MAX_REDIRECTS: usize = 3;

impl<'a> Session<'a> {
    pub(super) fn new(client: &'a Client, base: &'a Url) -> Self {
        Self { client, base, cookies: Jar::default() }
    }

    pub(super) async fn post(&self, page: &str, form: &[(&str, String)]) -> Result<Page, QueryError> {
        self.fetch(page, Some(form)).await
    }

    pub(super) async fn get(&self, page: &str) -> Result<Page, QueryError> {
        self.fetch(page, None).await
    }

    async fn fetch(&self, page: &str, mut form: Option<&[(&str, String)]>) -> Result<Page, QueryError> {
        let mut url = Url::parse(&format!("{}/{page}", self.base)).map_err(|_| QueryError::Redirected)?;
        for _ in 0..=MAX_REDIRECTS {
            let method = if form.is_some() { Method::POST } else { Method::GET };
            let mut request = self.client.request(method, url.clone());
            if let Some(cookies) = self.cookies.cookies(&url) {
                request = request.header(COOKIE, cookies);
            }
            if let Some(form) = form {
                request = request.form(form);
            }
            let response = request.send().await?;
            self.cookies.set_cookies(&mut response.headers().get_all(SET_COOKIE).iter(), &url);
            if !response.status().is_redirection() {
                return read(response).await;
            }
            if !matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                form = None;
            }
            url = redirect_target(&url, &response).ok_or(QueryError::Redirected)?;
        }
        Err(QueryError::Redirected)
    }
}

/// Returns the target of a redirect, if it stays on the host and does not downgrade from TLS.
fn redirect_target(from: &Url, response: &Response) -> Option<Url> {
    let to = from.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()?;
    let same_origin =
        (to.scheme(), to.port_or_known_default()) == (from.scheme(), from.port_or_known_default());
    let upgrade_to_tls = (from.scheme(), to.scheme()) == ("http", "https");
    (to.host() == from.host() && (same_origin || upgrade_to_tls)).then_some(to)
}

async fn read(mut response: Response) -> Result<Page, QueryError> {
    let (status, retry_after) = (response.status(), retry_after::asked(response.headers()));
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > MAX_BYTES {
            return Err(QueryError::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Page { status, body: body.freeze(), retry_after })
}
