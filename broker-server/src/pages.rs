//! The dev page at `/`: its files, how they are cached, and what they may load. The page itself lives in `pages/`.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::{COMMIT, VERSION};

/// What the page may load: its own files and its own server's socket.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action \
                      'none'; frame-ancestors 'none'";

/// The files of the dev page, ready to answer.
#[derive(Clone, Debug)]
pub struct Pages {
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    path: &'static str,
    content_type: &'static str,
    body: Bytes,
    tag: HeaderValue,
}

impl Pages {
    /// The page with this key in its `curl` example: dev mode's own, or words that say which key belongs there.
    pub fn new(api_key: &str) -> Self {
        let html = include_str!("../pages/dev.html")
            .replace("{{version}}", VERSION)
            .replace("{{commit}}", COMMIT)
            .replace("{{api_key}}", &escape(api_key));
        // One tag for all: a new script with an old page is as wrong as an old page.
        let files = [
            ("/", "text/html; charset=utf-8", Bytes::from(html)),
            ("/dev/page.css", "text/css; charset=utf-8", Bytes::from_static(include_bytes!("../pages/page.css"))),
            ("/dev/page.js", "text/javascript; charset=utf-8", Bytes::from_static(include_bytes!("../pages/page.js"))),
            ("/dev/connection.js", "text/javascript; charset=utf-8", Bytes::from_static(include_bytes!("../pages/connection.js"))),
        ];
        let tag = files.iter().fold(FNV_BASIS, |hash, (_, _, body)| fnv(hash, body));
        let tag = HeaderValue::try_from(format!("\"{tag:016x}\"")).expect("hexadecimal digits in quotes are a header value");
        Self { files: files.into_iter().map(|(path, content_type, body)| File { path, content_type, body, tag: tag.clone() }).collect() }
    }

    /// The answer to a request; `None`: the path is none of the page's.
    pub fn answer(&self, method: &Method, path: &str, headers: &http::HeaderMap) -> Option<Response<Bytes>> {
        let file = self.files.iter().find(|file| file.path == path)?;
        if method != Method::GET && method != Method::HEAD {
            let mut refused = Response::new(Bytes::from_static(b"a page is read with GET\n"));
            *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refused);
        }
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| names(tags, &file.tag));
        let body = if known || method == Method::HEAD { Bytes::new() } else { file.body.clone() };
        let mut response = Response::new(body);
        *response.status_mut() = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, file.tag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Some(response)
    }
}

/// Whether an `If-None-Match` header names the tag, weakly or not.
fn names(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(tags), Ok(tag)) = (tags.to_str(), tag.to_str()) else { return false };
    tags.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: tells versions of a file apart, no more is needed.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn the_page_is_asked_for_again_and_sent_only_when_it_changed() {
        let pages = Pages::new("dev");
        let first = pages.answer(&Method::GET, "/", &HeaderMap::new()).unwrap();
        assert_eq!((first.status(), &first.headers()[header::CACHE_CONTROL]), (StatusCode::OK, &HeaderValue::from_static("no-cache")));
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        let again = pages.answer(&Method::GET, "/", &headers).unwrap();
        assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0));
        let changed = Pages::new("other").answer(&Method::GET, "/", &headers).unwrap();
        assert_eq!(changed.status(), StatusCode::OK);
    }

    #[test]
    fn the_page_names_its_version_and_only_files_that_are_served() {
        let pages = Pages::new("a\"b<c");
        let html = pages.answer(&Method::GET, "/", &HeaderMap::new()).unwrap().into_body();
        let html = std::str::from_utf8(&html).unwrap();
        assert!(html.contains(VERSION) && html.contains(COMMIT) && html.contains("a&quot;b&lt;c") && !html.contains("{{"));
        for attribute in ["src=\"", "<link rel=\"stylesheet\" href=\""] {
            for path in html.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()) {
                assert!(pages.answer(&Method::GET, path, &HeaderMap::new()).is_some(), "{path}");
            }
        }
        assert!(!html.contains("://") || html.matches("://").count() == html.matches("http://www.w3.org").count());
    }

    #[test]
    fn another_method_is_refused_and_another_path_is_not_the_page_s() {
        let pages = Pages::new("dev");
        assert_eq!(pages.answer(&Method::POST, "/", &HeaderMap::new()).unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(pages.answer(&Method::HEAD, "/dev/page.js", &HeaderMap::new()).unwrap().body().is_empty());
        assert!(pages.answer(&Method::GET, "/dev/other.js", &HeaderMap::new()).is_none());
    }
}
