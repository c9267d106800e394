//! The files of a page, compiled in: no build step, nothing from elsewhere. What stands in the kit's own files lives in `page/`.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use broker::Script;

/// What a page may load and connect to: its own server.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What stands for the version in a file.
const VERSION: &str = "{{version}}";

/// One file of a page.
#[derive(Clone, Copy, Debug)]
pub struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

impl File {
    /// A page, at this path.
    pub const fn html(path: &'static str, text: &'static str) -> Self {
        Self { path, content_type: "text/html; charset=utf-8", text }
    }

    /// A module, at this path.
    pub const fn js(path: &'static str, text: &'static str) -> Self {
        Self { path, content_type: "text/javascript; charset=utf-8", text }
    }

    /// A style sheet, at this path.
    pub const fn css(path: &'static str, text: &'static str) -> Self {
        Self { path, content_type: "text/css; charset=utf-8", text }
    }
}

/// The kit's own files, which every page may load.
const KIT: [File; 3] = [
    File::css("/kit/base.css", include_str!("../page/base.css")),
    File::js("/kit/live.js", include_str!("../page/live.js")),
    File::js("/kit/page.js", include_str!("../page/page.js")),
];

/// The files of an application's pages, with the kit's. `{{version}}` in them becomes [`Pages::version`].
///
/// Browsers keep them and ask each time whether they have changed. The page's `<meta name="page-version" content="{{version}}">` is compared with
/// `/kit/version` by `live.js`, which says so when the page is older than its server. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Pages {
    files: &'static [File],
    version: Arc<str>,
}

impl Pages {
    /// Of these files. The path of each has to be another one.
    pub fn new(files: &'static [File]) -> Self {
        let texts = files.iter().chain(&KIT).flat_map(|file| file.text.bytes());
        // FNV-1a: it only has to differ when the files do, in builds of one commit.
        let fingerprint = texts.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let version = format!("{} ({} {:04x})", env!("CARGO_PKG_VERSION"), env!("BROKER_COMMIT"), fingerprint & 0xffff);
        Self { files, version: version.into() }
    }

    /// Version, commit and a fingerprint of the files: `0.1.0 (1a2b3c4d5 9f3e)`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Routes for all files, for `/kit/version`, and for the broker's client at `/broker.js`.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let version = self.version.clone();
        let told = async move || ([(header::CACHE_CONTROL, "no-store")], version.to_string());
        let mut router = Router::new().route("/kit/version", get(told)).route_service("/broker.js", Script::new());
        for file in self.files.iter().chain(&KIT) {
            let pages = self.clone();
            router = router.route(file.path, get(async move |request: HeaderMap| pages.answer(*file, &request)));
        }
        router
    }

    fn answer(&self, file: File, request: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", self.version.replace(|byte: char| !byte.is_ascii_alphanumeric() && byte != '.', "-"));
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(file.content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::ETAG, HeaderValue::from_str(&tag).expect("letters, digits, dots and dashes")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        let is_known = request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        if is_known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, file.text.replace(VERSION, &self.version)).into_response()
    }
}
