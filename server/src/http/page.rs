//! The built page, as it was when this binary was built.

use std::sync::OnceLock;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{Method, StatusCode};

use super::App;
use super::answer::Refusal;

/// One file of the page.
struct Asset {
    /// From the page's root, without a leading slash.
    path: &'static str,
    /// Changes with the contents.
    etag: &'static str,
    /// Its bytes.
    kept: Kept,
}

/// How the binary has it: in one form only, since the page is a good part of its size.
#[allow(dead_code, reason = "which of them there are depends on what was built")]
enum Kept {
    /// As it is.
    Plain(&'static [u8]),
    /// Compressed by Brotli; and as it is, once somebody has asked for that.
    Brotli(&'static [u8], OnceLock<Vec<u8>>),
}

impl Kept {
    /// The encoding, and the bytes, for whoever takes these encodings.
    fn bytes(&'static self, accepted: &str) -> (&'static str, &'static [u8]) {
        match self {
            Self::Plain(plain) => ("identity", plain),
            Self::Brotli(packed, _) if accepts(accepted, "br") => ("br", packed),
            Self::Brotli(packed, plain) => ("identity", plain.get_or_init(|| unpack(packed))),
        }
    }
}

/// What the build has packed.
fn unpack(mut packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    brotli::BrotliDecompress(&mut packed, &mut plain).expect("the build has packed it, and a vector takes all");
    plain
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

const WITHOUT_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Signalbox</title>\
    <p>This binary was built without its page. Run <code>cargo xtask build</code> and start it again. \
    The API is there: <a href=\"/api/v1/state\">/api/v1/state</a>.</p></html>";

/// `GET /` and everything that is no API. Paths that name no file are the page's own.
pub async fn page(State(app): State<App>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Refusal::NoSuchMethod(format!("{} can only be read", request.uri().path())).into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    if path.is_empty()
        && let Some(token) = token(request.uri().query().unwrap_or_default())
    {
        if !app.gate.is_token(token) {
            let why = "the token is not this server's; open the link that its ready line shows";
            return Refusal::Forbidden(why.to_owned()).into_response();
        }
        // The page keeps the token and takes it out of the address bar. No other port of this host can read what it keeps.
        let mut response = serve(path, request.headers());
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return response;
    }
    serve(path, request.headers())
}

fn token(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let find = |path: &str| ASSETS.iter().find(|asset| asset.path == path);
    // A path with a dot in its last part asks for a file, not for a view of the page.
    let is_view = !path.rsplit('/').next().unwrap_or_default().contains('.');
    let Some(asset) = find(path).or_else(|| if is_view { find("index.html") } else { None }) else {
        if is_view {
            return ([(CONTENT_TYPE, "text/html; charset=utf-8")], WITHOUT_PAGE).into_response();
        }
        return Refusal::NotFound(format!("the page has no file {path}")).into_response();
    };
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (encoding, body) = asset.kept.bytes(accepted);
    let etag = format!("\"{}-{encoding}\"", asset.etag);
    let fixed = [
        (ETAG, etag.as_str()),
        (CACHE_CONTROL, "no-cache"),
        (VARY, "accept-encoding"),
        (CONTENT_TYPE, content_type(asset.path)),
    ];
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag) {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    if encoding == "identity" {
        return (fixed, body).into_response();
    }
    ([(CONTENT_ENCODING, encoding)], fixed, body).into_response()
}

fn accepts(header: &str, encoding: &str) -> bool {
    header.split(',').any(|item| {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let refused = parameters.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok()) == Some(0.0);
        name.trim().eq_ignore_ascii_case(encoding) && !refused
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_that_a_browser_takes() {
        let cases = [
            ("gzip, deflate, br", "br", true),
            ("gzip;q=1.0, br;q=0", "br", false),
            ("gzip", "br", false),
            ("BR", "br", true),
            ("", "gzip", false),
        ];
        for (header, encoding, expected) in cases {
            assert_eq!(accepts(header, encoding), expected, "{header}");
        }
    }

    #[test]
    fn whoever_takes_no_brotli_has_it_unpacked() {
        const TEXT: &[u8] = b"signalbox signalbox signalbox";
        static PLAIN: Kept = Kept::Plain(TEXT);
        assert_eq!(PLAIN.bytes("br"), ("identity", TEXT));
        let mut packed = Vec::new();
        brotli::BrotliCompress(&mut &*TEXT, &mut packed, &brotli::enc::BrotliEncoderParams::default())
            .expect("a vector takes all");
        let packed: &'static [u8] = packed.leak();
        let kept: &'static Kept = Box::leak(Box::new(Kept::Brotli(packed, OnceLock::new())));
        assert_eq!(kept.bytes("gzip, br"), ("br", packed));
        assert_eq!(kept.bytes("gzip"), ("identity", TEXT));
        assert_eq!(kept.bytes("br;q=0"), ("identity", TEXT));
    }

    #[test]
    fn views_are_the_page_and_files_are_files() {
        let status = |path| serve(path, &HeaderMap::new()).status();
        assert_eq!(status(""), StatusCode::OK);
        assert_eq!(status("policies/frontend"), StatusCode::OK);
        assert_eq!(status("nothing.js"), StatusCode::NOT_FOUND);
    }
}
