//! `/broker.js`.

use broker_http::{Origins, Script};
use http::{HeaderMap, Request, StatusCode, header, request::Builder};
use tower_service::Service;

use super::server::Answer;

async fn ask(request: Builder) -> (Answer, HeaderMap) {
    let mut script = Script::new().origins(Origins::by(|origin| origin == "https://app.example.com"));
    let Ok(response) = script.call(request.body(()).unwrap()).await;
    let headers = response.headers().clone();
    (Answer::of(response), headers)
}

#[tokio::test]
async fn the_module_is_found_under_any_prefix_and_sent_again_only_when_it_changed() {
    let (module, headers) = ask(Request::get("/live/broker.js")).await;
    assert_eq!(module.status, StatusCode::OK);
    assert!(module.body.contains("export const connect"));
    assert_eq!(headers[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
    for tag in [headers[header::ETAG].to_str().unwrap().to_owned(), format!("\"x\", W/{}", headers[header::ETAG].to_str().unwrap())] {
        let (again, _) = ask(Request::get("/broker.js").header(header::IF_NONE_MATCH, tag)).await;
        assert_eq!((again.status, &*again.body), (StatusCode::NOT_MODIFIED, ""));
    }
    let (types, of_types) = ask(Request::get("/broker.d.ts")).await;
    assert!(types.body.contains("export declare function connect") && of_types[header::ETAG] != headers[header::ETAG]);
}

#[tokio::test]
async fn allowed_pages_of_other_origins_may_import_it_and_caches_keep_them_apart() {
    let (_, allowed) = ask(Request::get("/broker.js").header(header::ORIGIN, "https://app.example.com")).await;
    assert_eq!(allowed[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.com");
    let (foreign, other) = ask(Request::get("/broker.js").header(header::ORIGIN, "https://evil.example.com")).await;
    assert_eq!((foreign.status, other.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)), (StatusCode::OK, None));
    assert!(allowed[header::VARY] == "Origin" && other[header::VARY] == "Origin");
}

#[tokio::test]
async fn another_method_or_file_is_refused() {
    assert_eq!(ask(Request::post("/broker.js")).await.0.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(Request::get("/other.js")).await.0.status, StatusCode::NOT_FOUND);
    let (head, headers) = ask(Request::head("/broker.js")).await;
    assert!(head.body.is_empty() && headers.contains_key(header::ETAG));
}
