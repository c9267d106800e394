//! Bytes of an attacker's choice: an answer or a refusal, never a panic.

use broker_auth::{Key, TokenOptions, Tokens, inspect};
use proptest::prelude::*;

use super::{HEADER, NOW, Pair, at, signed, tokens};

/// JSON that an attacker with a signed token could choose.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[a-z:*>.%/]{0,12}|tenant:a/b|regex|wildcard|sub|\\PC{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let name = "channels|match|allow|info|b64info|data|b64data|[a-z]{0,3}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map(name, inner, 0..4).prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

const CLAIMS: &str = "sub|exp|iat|nbf|jti|aud|iss|info|b64info|meta|channels|subs|groups|caps|tenant|expire_at|channel";

proptest! {
    #[test]
    fn any_text_as_a_token(text in "\\PC*") {
        prop_assert!(tokens().verify(&text, at(NOW)).is_err());
        let _ = inspect(&text, &TokenOptions::default(), at(NOW));
    }

    #[test]
    fn any_bytes_as_header_and_claims(header in any::<Vec<u8>>(), claims in any::<Vec<u8>>()) {
        let _ = tokens().verify(&signed(&header, &claims), at(NOW));
        let _ = tokens().verify(&signed(HEADER, &claims), at(NOW));
    }

    #[test]
    fn any_json_as_any_claim(claims in prop::collection::hash_map(CLAIMS, json(), 0..6)) {
        let claims = serde_json::to_string(&claims).unwrap();
        let token = signed(HEADER, &claims);
        let verdict = tokens().verify(&token, at(NOW));
        let options = TokenOptions::default();
        let inspected = inspect(&token, &options, at(NOW)).unwrap();
        prop_assert_eq!(verdict.is_ok(), inspected.identity.is_ok(), "{}", claims);
    }

    #[test]
    fn any_text_as_a_key(text in "\\PC*", bytes in any::<Vec<u8>>()) {
        let _ = Key::public_pem(&text);
        let _ = Key::jwk(&text);
        let _ = Key::secret(&bytes);
        let _ = Key::public_pem(&format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes)));
    }

    #[test]
    fn any_signature_under_any_key(signature in any::<Vec<u8>>()) {
        let signature = base64::Engine::encode(&super::BASE64, signature);
        for (name, pair) in [("RS256", Pair::rsa()), ("ES256", Pair::p256()), ("ES384", Pair::p384()), ("EdDSA", Pair::ed25519())] {
            let tokens = Tokens::new(TokenOptions::default()).key(Key::public_pem(pair.public).unwrap());
            let head = signed(format!(r#"{{"alg":"{name}"}}"#), "{}");
            let forged = format!("{}.{signature}", head.rsplit_once('.').unwrap().0);
            prop_assert!(tokens.verify_now(&forged, at(NOW)).is_err());
        }
    }
}
