//! The page's files.

use http::{Method, Request, StatusCode, header};

use crate::harness::Chat;

#[tokio::test]
async fn every_file_that_the_page_names_is_served_and_none_is_from_elsewhere() {
    let chat = Chat::start().await;
    let mut names = vec!["/".to_owned(), "/join/abc".to_owned()];
    let mut at = 0;
    while let Some(name) = names.get(at).cloned() {
        at += 1;
        let (status, text) = get(&chat, &name).await;
        assert_eq!(status, StatusCode::OK, "{name}");
        let elsewhere = text.replace("http://www.w3.org/", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{name}");
        let is_file = |part: &&str| part.starts_with('/') && matches!(part.rsplit_once('.'), Some((_, "js" | "css")));
        for named in text.split('"').filter(is_file) {
            if !names.iter().any(|known| known == named) {
                names.push(named.to_owned());
            }
        }
    }
    assert!(names.iter().any(|name| name == "/unsent.js") && names.len() > 10, "{names:?}");
}

async fn get(chat: &Chat, path: &str) -> (StatusCode, String) {
    let response = chat.answer(Request::builder().method(Method::GET).uri(path).body(axum::body::Body::empty()).unwrap()).await;
    let is_page = path == "/";
    assert!(!is_page || response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
    let status = response.status();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}
