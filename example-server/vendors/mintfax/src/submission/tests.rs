use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};

use super::*;
use platform::outbound::Rules;

const BOUNDARY: &str = "-----a boundary";

/// Returns a part of a form.
fn part(name: &str, file_name: Option<&str>, content: &[u8]) -> Vec<u8> {
    let file_name = file_name.map_or_else(String::new, |name| format!("; filename=\"{name}\""));
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file_name}\r\n\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [&parts.concat()[..], format!("--{BOUNDARY}--\r\n").as_bytes()].concat()
}

fn request(body: Body) -> Request {
    let content_type = format!("multipart/form-data; boundary=\"{BOUNDARY}\"");
    let mut request = http::Request::post("/").header("content-type", content_type).body(body).unwrap();
    DefaultBodyLimit::max(MAX_BYTES).apply(&mut request);
    request
}

async fn read_from(uploads: &Uploads, request: Request) -> Result<Submission, Failure> {
    let outbound = Outbound::new(Rules { allow_http: false, allow_private: false }).unwrap();
    Submission::read(request, uploads, &outbound).await
}

async fn read(parts: &[Vec<u8>]) -> Result<Submission, Failure> {
    // Small chunks, so that their boundaries fall anywhere in the form.
    let chunks: Vec<_> = form(parts).chunks(7).map(|chunk| Ok::<_, axum::Error>(chunk.to_vec())).collect();
    read_from(&Uploads::temporary(), request(Body::from_stream(stream::iter(chunks)))).await
}

fn to() -> Vec<u8> {
    part("to", None, b"+12015550100")
}

fn file() -> Vec<u8> {
    part("file", Some("letter.pdf"), b"%PDF-1.7\r\n--- not the boundary\r\n")
}

#[tokio::test]
async fn fields_come_in_any_order() {
    let retries = part("retries", None, b"0");
    let url = part("webhook_url", None, b"https://example.com/hook?a=b");
    let other = part("csid", None, &vec![b'x'; 20_000]);
    for parts in
        [[to(), file(), retries.clone(), url.clone(), other.clone()], [other, url, retries, file(), to()]]
    {
        let submission = read(&parts).await.unwrap();
        assert_eq!((submission.to.as_str(), submission.retries), ("+12015550100", Some(0)));
        assert_eq!(submission.webhook_url.as_deref(), Some("https://example.com/hook?a=b"));
        assert_eq!(submission.document.document.bytes, 32);
        assert_eq!(submission.document.document.media_type.as_str(), "application/pdf");
    }
    let least = read(&[to(), file()]).await.unwrap();
    assert_eq!((least.retries, least.webhook_url), (None, None));
}

/// Returns the error messages by field.
async fn errors(parts: &[Vec<u8>]) -> Value {
    let failure = read(parts).await.unwrap_err();
    assert_eq!((failure.status.as_u16(), failure.code), (422, "validation_failed"));
    failure.context.unwrap()["errors"].clone()
}

#[tokio::test]
async fn all_errors_are_reported_by_field() {
    let all = errors(&[
        part("to", None, b"12015550100"),
        part("file", Some("x.exe"), b"MZ\x90\x00"),
        part("retries", None, b"11"),
        part("webhook_url", None, b"http://example.com"),
    ])
    .await;
    let fields: Vec<_> = all.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["file", "retries", "to", "webhook_url"]);
    for (parts, field) in [
        (vec![file()], "to"),
        (vec![to()], "file"),
        (vec![part("to", None, b""), file()], "to"),
        (vec![part("to", None, b"+02015550100"), file()], "to"),
        (vec![part("to", None, b"+1201555010012345"), file()], "to"),
        (vec![part("to", None, b"+1 201"), file()], "to"),
        (vec![part("to", None, b"\xff"), file()], "to"),
        (vec![part("to", None, &[b'1'; MAX_TEXT + 1]), file()], "to"),
        (vec![to(), to(), file()], "to"),
        (vec![to(), file(), file()], "file"),
        (vec![to(), part("file", Some("a"), b"")], "file"),
        (vec![to(), part("file", None, b"letter.pdf")], "file"),
        (vec![to(), file(), part("retries", None, b"-1")], "retries"),
        (vec![to(), file(), part("retries", None, b"1.5")], "retries"),
        (vec![to(), file(), part("retries", None, b"many")], "retries"),
        (vec![to(), file(), part("webhook_url", None, b"https://127.0.0.1/")], "webhook_url"),
        (vec![to(), file(), part("webhook_url", None, b"not a url")], "webhook_url"),
    ] {
        let errors = errors(&parts).await;
        let fields: Vec<_> = errors.as_object().unwrap().keys().collect();
        assert_eq!(fields, [field], "{errors}");
        assert_eq!(errors[field].as_array().unwrap().len(), 1, "{errors}");
    }
    assert_eq!(
        errors(&[]).await,
        json!({
            "to": ["The to field is required."],
            "file": ["The file field is required."],
        })
    );
}

#[tokio::test]
async fn a_body_that_is_not_a_form_is_a_bad_request() {
    let uploads = Uploads::temporary();
    let json = http::Request::post("/").header("content-type", "application/json").body(Body::from("{}"));
    let whole = form(&[to(), file()]);
    let cut = request(Body::from(whole[..whole.len() - 20].to_vec()));
    let broken = stream::iter([Ok(to()), Err(axum::Error::new("it broke off"))]);
    for request in [json.unwrap(), cut, request(Body::from_stream(broken)), request(Body::empty())] {
        let failure = read_from(&uploads, request).await.unwrap_err();
        assert_eq!((failure.status.as_u16(), failure.code), (400, "bad_request"));
    }
}

/// Returns a body of this many chunks of 64 KiB after the given beginning, and a counter of the
/// chunks that were requested.
fn long(beginning: Vec<u8>, chunks: usize, end: Vec<u8>) -> (Body, Arc<AtomicUsize>) {
    let requested = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requested);
    let chunks = stream::iter(0..chunks).map(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok::<_, axum::Error>(vec![b'x'; 64 * 1024])
    });
    let body = stream::iter([Ok(beginning)]).chain(chunks).chain(stream::iter([Ok(end)]));
    (Body::from_stream(body), requested)
}

fn file_head() -> Vec<u8> {
    let mut head = [to(), part("file", Some("a.txt"), b"")].concat();
    head.truncate(head.len() - 2);
    head
}

#[tokio::test]
async fn ten_megabytes_are_accepted_and_reading_stops_beyond() {
    let uploads = Uploads::temporary();
    let end = || form(&[b"\r\n".to_vec()]);
    let (body, _) = long(file_head(), 160, end());
    let taken = read_from(&uploads, request(body)).await.unwrap();
    assert_eq!(taken.document.document.bytes, 10 * 1024 * 1024);

    let (body, requested) = long(file_head(), 1000, end());
    let failure = read_from(&uploads, request(body)).await.unwrap_err();
    assert_eq!((failure.status.as_u16(), failure.code), (413, "file_too_large"));
    let requested = requested.load(Ordering::Relaxed);
    assert!((160..165).contains(&requested), "{requested} chunks were read");
}

/// The parser reads no more of an endless header than the allowance.
#[tokio::test]
async fn a_part_with_an_endless_header_is_refused_early() {
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"").into_bytes();
    let (body, requested) = long(head, 160, Vec::new());
    let failure = read_from(&Uploads::temporary(), request(body)).await.unwrap_err();
    assert_eq!(failure.status.as_u16(), 400);
    assert!(requested.load(Ordering::Relaxed) < 4);
}

/// A parser that buffered everything available would request all chunks before the first one is
/// written to the disk.
#[tokio::test]
async fn a_chunk_is_requested_only_after_the_previous_one_was_written() {
    let allowance = Allowance::default();
    let (body, requested) = long(file_head(), 100, Vec::new());
    let body = Body::new(Metered::new(body, allowance.clone()));
    let mut multipart: Multipart = request(body).extract().await.unwrap();
    allowance.renew();
    skip(multipart.next_field().await.unwrap().unwrap(), &allowance).await.unwrap();
    allowance.renew();
    let mut field = multipart.next_field().await.unwrap().unwrap();
    let mut taken = 0;
    for _ in 0..50 {
        taken += next(&mut field, &allowance).await.unwrap().unwrap().len();
        let requested = requested.load(Ordering::Relaxed) * 64 * 1024;
        assert!(requested <= taken + 128 * 1024, "{requested} bytes were requested when {taken} were taken");
    }
}

#[tokio::test]
async fn a_text_keeps_the_character_set_that_its_sender_names() {
    let file = |content_type: &str, content: &[u8]| {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\
             Content-Type: {content_type}\r\n\r\n"
        );
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    for (content_type, content, charset) in [
        ("text/plain; charset=iso-8859-1", &b"caf\xe9"[..], Some("iso-8859-1")),
        ("text/plain; Charset=\"windows-1252\"", b"caf\xe9", Some("windows-1252")),
        ("text/html; charset=utf-8", b"<p>caf\xc3\xa9", Some("utf-8")),
        ("text/plain", b"caf\xe9", None),
        ("application/pdf; charset=utf-8", b"%PDF-1.7", None),
    ] {
        let read = read(&[to(), file(content_type, content)]).await.unwrap();
        assert_eq!(read.document.document.charset.as_deref(), charset, "{content_type}");
    }
    let errors = errors(&[to(), file("text/plain; charset=\"a b\"", b"text")]).await;
    assert!(errors["file"][0].as_str().unwrap().contains("character set"), "{errors}");
}
