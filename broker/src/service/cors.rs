//! What a browser is told about answers that a page of another origin asked for. Which pages may ask lives in `origin`.

use http::{
    HeaderMap, HeaderValue, Response,
    header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, VARY},
};

use super::origin::Verdict;

/// Lets the page read the answer that may: one origin by name, never a wildcard. Cookies only go to pages that are allowed by name: where `*` lets
/// everybody in, a page must not read in its visitor's name what only the visitor may.
pub(crate) fn mark<B>(response: &mut Response<B>, request: &HeaderMap, verdict: Verdict) {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = request.get(ORIGIN).filter(|_| verdict.is_page()) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    if verdict == Verdict::Allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_the_answer_where_it_may_and_with_cookies_where_it_is_named() {
        check(Verdict::NoOrigin, None, None);
        check(Verdict::Foreign, None, None);
        check(Verdict::AnyAllowed, Some("https://app.test"), None);
        check(Verdict::Allowed, Some("https://app.test"), Some("true"));
    }

    #[track_caller]
    fn check(verdict: Verdict, origin: Option<&str>, credentials: Option<&str>) {
        let request: HeaderMap = [(ORIGIN, HeaderValue::from_static("https://app.test"))].into_iter().collect();
        let mut response = Response::new(());
        mark(&mut response, &request, verdict);
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header(VARY), Some("Origin"), "whoever keeps it keeps it for one origin");
        assert_eq!((header(ACCESS_CONTROL_ALLOW_ORIGIN), header(ACCESS_CONTROL_ALLOW_CREDENTIALS)), (origin, credentials), "{verdict:?}");
    }
}
