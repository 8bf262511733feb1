//! Faults of stores that take a response apart.

use http::{HeaderMap, HeaderValue, StatusCode};
use idempotency_layer::{Outcome, ResponseParts, StoredResponse};

use crate::faults::Fault;

/// Returns the outcome as a store with this fault keeps it.
pub(crate) fn damaged(outcome: Outcome, fault: Fault) -> Outcome {
    let Outcome::Response(response) = &outcome else { return outcome };
    // Bytes that this release cannot decode are kept as they are.
    let Ok(mut parts) = response.decode() else { return outcome };
    match fault {
        Fault::RepeatedHeadersLost => {
            let names = parts.headers.keys().cloned().collect::<Vec<_>>();
            let last = |name| Some((name, parts.headers.get_all(name).iter().next_back()?.clone()));
            parts.headers =
                names.iter().filter_map(last).map(|(name, value)| (name.clone(), value)).collect();
        }
        Fault::HeadersSorted => {
            let mut fields =
                parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>();
            fields.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
            parts.headers = fields.into_iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
        }
        Fault::HeaderValuesAsText => {
            for value in parts.headers.values_mut() {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                let sensitive = value.is_sensitive();
                *value = HeaderValue::from_bytes(text.as_bytes()).expect("text is a value");
                value.set_sensitive(sensitive);
            }
        }
        Fault::SensitiveLost => parts.headers.values_mut().for_each(|value| value.set_sensitive(false)),
        Fault::BodyAsText => parts.body = String::from_utf8_lossy(&parts.body).into_owned().into(),
        Fault::BodyTrimmed => parts.body = parts.body.trim_ascii().to_vec().into(),
        Fault::EmptyTrailersLost => parts.trailers = parts.trailers.filter(|trailers| !trailers.is_empty()),
        Fault::TrailersLost => parts.trailers = None,
        Fault::StatusFlattened if parts.status.is_success() => parts.status = StatusCode::OK,
        Fault::LongBodyCut => parts.body.truncate(usize::from(u16::MAX)),
        _ => return outcome,
    }
    Outcome::Response(encoded(&parts))
}

/// Encodes a response as the crate does, whose function is private.
fn encoded(parts: &ResponseParts) -> StoredResponse {
    let count = |headers: &HeaderMap| u16::try_from(headers.len()).expect("few headers").to_be_bytes();
    let mut bytes = vec![1];
    bytes.extend(parts.status.as_u16().to_be_bytes());
    bytes.extend(count(&parts.headers));
    bytes.extend(parts.trailers.as_ref().map_or(u16::MAX.to_be_bytes(), count));
    for (name, value) in parts.headers.iter().chain(parts.trailers.iter().flatten()) {
        let sensitive = u32::from(value.is_sensitive()) << 31;
        bytes.extend(u16::try_from(name.as_str().len()).expect("a short name").to_be_bytes());
        bytes.extend((u32::try_from(value.len()).expect("a short value") | sensitive).to_be_bytes());
        bytes.extend(name.as_str().as_bytes());
        bytes.extend(value.as_bytes());
    }
    bytes.extend(&parts.body);
    StoredResponse::from_bytes(bytes.into())
}
