//! Keys that are fetched: when, how often, and what holds while they cannot be (S4).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_auth::{FetchFailed, Jwks, KeySource, TokenOptions, Tokens};
use broker_core::{Identity, Refusal, RefusalKind};
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use tokio::time::{advance, sleep};

use super::{NOW, Pair, at, keys::rsa_jwk};

/// An issuer whose answers the test chooses.
#[derive(Default)]
struct Issuer {
    answer: parking_lot::Mutex<Option<String>>,
    fetches: AtomicUsize,
}

impl Issuer {
    fn publishing(ids: &[&str]) -> Arc<Self> {
        let issuer = Arc::new(Self::default());
        issuer.publish(ids);
        issuer
    }

    fn publish(&self, ids: &[&str]) {
        let keys: Vec<String> = ids.iter().map(|id| rsa_jwk(&format!(r#","kid":"{id}","x5u":"http://evil/""#))).collect();
        *self.answer.lock() = Some(format!(r#"{{"keys":[{}]}}"#, keys.join(",")));
    }

    fn fail(&self) {
        *self.answer.lock() = None;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn tokens(self: &Arc<Self>, issuer: Option<&str>) -> Tokens {
        Tokens::new(TokenOptions::default()).jwks(Arc::new(Jwks::from_source(self.clone(), "http://issuer/jwks", issuer)))
    }
}

#[async_trait]
impl KeySource for Issuer {
    async fn fetch(&self) -> Result<Bytes, FetchFailed> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(100)).await;
        self.answer.lock().clone().map(Into::into).ok_or_else(|| FetchFailed("the answer is 500".to_owned()))
    }
}

fn token(id: &str) -> String {
    Pair::rsa().sign(Algorithm::RS256, &format!(r#"{{"alg":"RS256","kid":"{id}"}}"#), r#"{"sub":"ris1","iss":"me"}"#)
}

async fn verify(tokens: &Tokens, id: &str) -> Result<Identity, Refusal> {
    tokens.verify(&token(id), at(NOW)).await
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_when_the_first_token_needs_them_and_kept() {
    let issuer = Issuer::publishing(&["a", "b"]);
    let tokens = issuer.tokens(None);
    for _ in 0..10 {
        assert_eq!(verify(&tokens, "a").await.unwrap().rule, "rs256 token (jwks)");
        assert!(verify(&tokens, "b").await.is_ok());
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_once_are_one_fetch() {
    let issuer = Issuer::publishing(&["a"]);
    let tokens = Arc::new(issuer.tokens(None));
    let token = token("a");
    let asked: Vec<_> = (0..1000)
        .map(|_| {
            let (tokens, token) = (tokens.clone(), token.clone());
            tokio::spawn(async move { tokens.verify(&token, at(NOW)).await.is_ok() })
        })
        .collect();
    for answer in asked {
        assert!(answer.await.unwrap());
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_is_at_most_two_fetches_in_30_s() {
    let issuer = Issuer::publishing(&["a"]);
    let tokens = issuer.tokens(None);
    let token = token("a");
    let rest = token.split_once('.').unwrap().1;
    let begin = tokio::time::Instant::now();
    for index in 0..10_000 {
        let header = base64::Engine::encode(&super::BASE64, format!(r#"{{"alg":"RS256","kid":"flood{index}"}}"#));
        assert!(tokens.verify(&format!("{header}.{rest}"), at(NOW)).await.is_err());
        advance(Duration::from_micros(2900)).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert!(issuer.fetches() <= 2, "{} fetches", issuer.fetches());
    assert!(verify(&tokens, "a").await.is_ok(), "known keys are served meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_published_is_refused_for_a_minute_without_another_fetch() {
    let issuer = Issuer::publishing(&["a"]);
    let tokens = issuer.tokens(None);
    assert_eq!(verify(&tokens, "x").await.unwrap_err().kind, RefusalKind::Unauthorized);
    for _ in 0..5 {
        advance(Duration::from_secs(11)).await;
        let refusal = verify(&tokens, "x").await.unwrap_err();
        assert_eq!(
            (refusal.kind, &*refusal.message),
            (RefusalKind::Unauthorized, "the token is signed with a key that its issuer does not publish")
        );
    }
    assert_eq!(issuer.fetches(), 1);
    let unseen = verify(&tokens, "y").await.unwrap_err();
    assert_eq!(unseen.kind, RefusalKind::Unauthorized, "30 s have passed, so it was looked for");
    let soon = verify(&tokens, "z").await.unwrap_err();
    assert_eq!(soon.kind, RefusalKind::Unavailable, "it may be new: the client tries again");
    assert!(soon.retry_after.is_some_and(|after| after <= Duration::from_secs(30)));
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_when_its_first_token_comes_and_an_old_one_goes() {
    let issuer = Issuer::publishing(&["old"]);
    let tokens = issuer.tokens(None);
    assert!(verify(&tokens, "old").await.is_ok());
    issuer.publish(&["new"]);
    advance(Duration::from_secs(31)).await;
    assert!(verify(&tokens, "new").await.is_ok());
    assert_eq!(issuer.fetches(), 2);
    advance(Duration::from_secs(31)).await;
    assert_eq!(verify(&tokens, "old").await.unwrap_err().kind, RefusalKind::Unauthorized);
}

#[tokio::test(start_paused = true)]
async fn old_keys_hold_while_the_issuer_fails_but_not_for_ever() {
    let issuer = Issuer::publishing(&["a"]);
    let tokens = issuer.tokens(None);
    assert!(verify(&tokens, "a").await.is_ok());
    issuer.fail();
    for _ in 0..23 {
        advance(Duration::from_secs(3600)).await;
        assert!(verify(&tokens, "a").await.is_ok());
        // The attempt behind it goes wrong, and the keys stay.
        sleep(Duration::from_secs(1)).await;
    }
    assert!(issuer.fetches() > 20);
    advance(Duration::from_secs(3600)).await;
    let refusal = verify(&tokens, "a").await.unwrap_err();
    assert_eq!((refusal.kind, &*refusal.message), (RefusalKind::Unavailable, "the keys of tokens cannot be fetched"));
    assert!(refusal.rule.unwrap().contains("the answer is 500"));
    issuer.publish(&["a"]);
    advance(Duration::from_secs(16)).await;
    assert!(verify(&tokens, "a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_may_leave_without_breaking_off_the_fetch() {
    let issuer = Issuer::publishing(&["a"]);
    let tokens = Arc::new(issuer.tokens(None));
    let leaving = tokio::spawn({
        let tokens = tokens.clone();
        async move { verify(&tokens, "a").await.is_ok() }
    });
    sleep(Duration::from_millis(50)).await;
    leaving.abort();
    assert!(verify(&tokens, "a").await.is_ok());
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_issuers_keys_never_vouch_for_anothers_tokens() {
    let (mine, yours) = (Issuer::publishing(&["mine"]), Issuer::publishing(&["yours"]));
    let tokens = Tokens::new(TokenOptions::default());
    let source = |issuer: &Arc<Issuer>, name| Arc::new(Jwks::from_source(issuer.clone(), "x", Some(name)));
    let tokens = tokens.jwks(source(&mine, "me")).jwks(source(&yours, "you"));
    // Every token of these tests says that it is from `me`.
    assert!(verify(&tokens, "mine").await.is_ok());
    advance(Duration::from_secs(31)).await;
    assert_eq!(verify(&tokens, "yours").await.unwrap_err().kind, RefusalKind::Unauthorized);
    assert_eq!(yours.fetches(), 0, "a token of another issuer is no reason to ask this one");
    let stranger = Pair::rsa().sign(Algorithm::RS256, r#"{"alg":"RS256","kid":"mine"}"#, r#"{"iss":"stranger"}"#);
    let refusal = tokens.verify(&stranger, at(NOW)).await.unwrap_err();
    assert_eq!(refusal.message, "the token's issuer is not one whose keys are known here");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_names_no_key_needs_a_set_with_one_for_it() {
    let issuer = Issuer::publishing(&["a"]);
    let unnamed = Pair::rsa().sign(Algorithm::RS256, r#"{"alg":"RS256"}"#, "{}");
    assert!(issuer.tokens(None).verify(&unnamed, at(NOW)).await.is_ok());
    issuer.publish(&["a", "b"]);
    let refusal = issuer.tokens(None).verify(&unnamed, at(NOW)).await;
    let refusal = match refusal {
        // The keys are fetched by the first one who asks.
        Err(refusal) => refusal,
        Ok(_) => panic!("one of two keys was chosen"),
    };
    assert!(refusal.message.starts_with("the token does not name its key"), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_set_of_keys_is_a_failure() {
    let secret = r#"{"keys":[{"kty":"oct","kid":"a","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#.to_owned();
    let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; 65].join(","));
    let long = format!("{}{}", r#"{"keys":[]}"#, " ".repeat(256 * 1024));
    for (answer, expected) in [
        ("<html>".to_owned(), "no JSON object"),
        ("[]".to_owned(), "no JSON object"),
        (r#"{"keys":{}}"#.to_owned(), "no JSON object"),
        (r#"{"keys":[]}"#.to_owned(), "holds no key"),
        (secret, "holds no key"),
        (many, "more than 64 keys"),
        (long, "longer than"),
    ] {
        let issuer = Arc::new(Issuer::default());
        *issuer.answer.lock() = Some(answer);
        let failure = issuer.tokens(None).sources()[0].refresh().await.unwrap_err();
        assert!(failure.0.contains(expected), "{failure}");
    }
}
