//! Where a request of the plain protocol may carry its token, and how it is kept out of everything that is written down.

use broker_core::Head;

use super::query::{Query, without};

/// Parameters that are never logged or handed on in a query.
const SECRETS: [&str; 2] = ["token", "ticket"];

/// The subprotocol that announces a token as the next one offered; it is the one that is answered.
pub(crate) const BEARER: &str = "bearer";

/// The token or ticket of a request, and the subprotocol to answer where it came that way.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Credentials {
    pub(crate) token: Option<String>,
    pub(crate) ticket: Option<String>,
    pub(crate) subprotocol: Option<&'static str>,
}

/// Looks where a token may be, what a client sets on purpose first: `Authorization`, subprotocols, `?token=`, cookie `broker_token`. A browser sends
/// the cookie unasked: `?ticket=` beats it, and nothing else.
pub(crate) fn credentials(head: &Head, query: &Query) -> Credentials {
    let offered: Vec<&str> = offered(head).collect();
    let announced = offered.windows(2).find(|pair| pair[0].eq_ignore_ascii_case(BEARER)).map(|pair| pair[1]);
    let given = |text: &&str| !text.is_empty();
    let on_purpose = bearer(head).or(announced).or_else(|| query.first("token")).filter(given);
    let ticket = query.first("ticket").filter(given).filter(|_| on_purpose.is_none());
    let token = on_purpose.or_else(|| head.cookie("broker_token").filter(given).filter(|_| ticket.is_none()));
    Credentials { token: token.map(str::to_owned), ticket: ticket.map(str::to_owned), subprotocol: announced.map(|_| BEARER) }
}

/// The subprotocols that the client offers.
pub(crate) fn offered(head: &Head) -> impl Iterator<Item = &str> {
    let offers = head.headers.iter().filter(|(name, _)| name == "sec-websocket-protocol");
    offers.flat_map(|(_, value)| value.split(',')).map(str::trim)
}

/// The query as hooks and logs may see it.
pub(crate) fn without_secrets(query: &str) -> String {
    without(query, &SECRETS)
}

fn bearer(head: &Head) -> Option<&str> {
    let (scheme, token) = head.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_wherever_it_may_be() {
        check(&[], "", None, None);
        check(&[("authorization", "Bearer abc")], "", Some("abc"), None);
        check(&[("authorization", "bearer  abc")], "", Some("abc"), None);
        check(&[("authorization", "Basic abc")], "", None, None);
        check(&[("sec-websocket-protocol", "bearer, abc")], "", Some("abc"), Some("bearer"));
        check(&[("sec-websocket-protocol", "bearer")], "", None, None);
        check(&[("sec-websocket-protocol", "mqtt")], "", None, None);
        check(&[], "token=abc", Some("abc"), None);
        check(&[], "token=", None, None);
        check(&[("cookie", "a=b; broker_token=abc")], "", Some("abc"), None);
    }

    #[test]
    fn what_is_set_on_purpose_beats_the_cookie() {
        let cookie = ("cookie", "broker_token=cookie");
        check(&[cookie], "token=query", Some("query"), None);
        check(&[cookie, ("authorization", "Bearer header")], "token=query", Some("header"), None);
    }

    #[test]
    fn a_ticket_beats_the_cookie_and_nothing_else() {
        let found = |headers, query| {
            let found = find(headers, query);
            (found.token, found.ticket)
        };
        let (cookie, header) = (("cookie", "broker_token=cookie"), ("authorization", "Bearer header"));
        assert_eq!(found(&[], "ticket=abc"), (None, Some("abc".to_owned())));
        assert_eq!(found(&[cookie], "ticket=abc"), (None, Some("abc".to_owned())));
        assert_eq!(found(&[cookie], "ticket="), (Some("cookie".to_owned()), None));
        assert_eq!(found(&[cookie, header], "ticket=abc"), (Some("header".to_owned()), None));
    }

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], query: &str, token: Option<&str>, subprotocol: Option<&str>) {
        let found = find(headers, query);
        assert_eq!((found.token.as_deref(), found.subprotocol), (token, subprotocol));
    }

    fn find(headers: &[(&'static str, &'static str)], query: &str) -> Credentials {
        let mut head = Head::new("/ws");
        head.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        credentials(&head, &Query::parse(query).unwrap())
    }
}
