use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt;
use kit::{File, Pages};
use tower::ServiceExt;

/// Of another build of the page.
const OTHERS: &[File] = &[File::html("/", "other")];
const FILES: &[File] = &[File::html("/", r#"<!doctype html><meta name="page-version" content="{{version}}"><title>Test</title>"#)];

async fn get(path: &str, known: Option<&str>) -> Response {
    let router: Router = Pages::new(FILES).router();
    let request = Request::get(path).header(header::IF_NONE_MATCH, known.unwrap_or("none")).body(Body::empty()).unwrap();
    router.oneshot(request).await.unwrap()
}

async fn text(path: &str) -> String {
    let answer = get(path, None).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn pages_carry_their_version_and_the_server_tells_it_too() {
    let version = text("/kit/version").await;
    assert_eq!(version, Pages::new(FILES).version());
    assert!(text("/").await.contains(&format!("content=\"{version}\"")), "{version}");
}

#[tokio::test]
async fn a_file_that_has_not_changed_is_not_sent_again() {
    let first = get("/", None).await;
    assert_eq!(first.headers()[header::CACHE_CONTROL], "no-cache");
    let again = get("/", Some(first.headers()[header::ETAG].to_str().unwrap())).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_ne!(Pages::new(OTHERS).version(), Pages::new(FILES).version());
}

#[tokio::test]
async fn what_a_page_may_load_is_served_and_loads_nothing_from_elsewhere() {
    for path in ["/kit/base.css", "/kit/live.js", "/kit/page.js", "/broker.js"] {
        let file = text(path).await;
        assert!(!file.contains("://") && !file.contains("@import url"), "{path} names another place");
        for line in file.lines().filter(|line| line.starts_with("import ")) {
            assert!(line.contains("\"/kit/") || line.contains("\"/broker.js\""), "{path}: {line}");
        }
    }
    let policy = get("/", None).await.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert!(policy.contains("connect-src 'self';"), "it talks to its own server alone: {policy}");
}
