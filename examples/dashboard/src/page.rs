//! The page and its files, compiled in: no build step, nothing from elsewhere. How they are served lives in `main`.

use std::sync::LazyLock;

/// One file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its path, from the root.
    pub path: &'static str,
    /// Its content type.
    pub content_type: &'static str,
    /// Its text; the version is filled in when it is served.
    text: &'static str,
}

/// All files of the page.
pub const ASSETS: [Asset; 5] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("../page/index.html") },
    Asset { path: "/style.css", content_type: "text/css; charset=utf-8", text: include_str!("../page/style.css") },
    Asset { path: "/dashboard.js", content_type: "text/javascript; charset=utf-8", text: include_str!("../page/dashboard.js") },
    Asset { path: "/socket.js", content_type: "text/javascript; charset=utf-8", text: include_str!("../page/socket.js") },
    Asset { path: "/chart.js", content_type: "text/javascript; charset=utf-8", text: include_str!("../page/chart.js") },
];

/// What the page may load and connect to: itself.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'";

impl Asset {
    /// The text as it is served.
    pub fn body(&self) -> String {
        self.text.replace("{{version}}", version())
    }
}

/// Names this build of the page: version, commit, and a fingerprint of the files, which tells builds of one commit apart.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let texts = ASSETS.iter().flat_map(|asset| asset.text.bytes());
        // FNV-1a: it only has to differ when the files do.
        let fingerprint = texts.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{} ({} {:04x})", env!("CARGO_PKG_VERSION"), env!("BROKER_COMMIT"), fingerprint & 0xffff)
    });
    &VERSION
}

/// The entity tag of all files: they belong together.
pub fn etag() -> String {
    format!("\"{}\"", version().replace(|byte: char| !byte.is_ascii_alphanumeric() && byte != '.', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for asset in ASSETS {
            let text = asset.body().replace("http://www.w3.org/", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{}", asset.path);
            assert!(!text.contains("{{"), "{}", asset.path);
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let index = ASSETS[0].body();
        for asset in &ASSETS[1..] {
            let named = ASSETS.iter().any(|other| other.body().contains(asset.path.trim_start_matches('/')));
            assert!(named && !index.is_empty(), "{} is not used", asset.path);
        }
    }
}
