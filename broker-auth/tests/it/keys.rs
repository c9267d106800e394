//! Which keys are taken, for which algorithms, and what is said about the others (S3, S4).

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64},
};
use broker_auth::{Algorithm, InvalidKey, Key, TokenOptions, Tokens, WeakSecret};
use jsonwebtoken::Algorithm as Signed;

use super::{HEADER, NOW, Pair, at, signed_with};

const ALL: [(Signed, &str, &str); 9] = [
    (Signed::RS256, "RS256", "rs256 token"),
    (Signed::RS384, "RS384", "rs384 token"),
    (Signed::RS512, "RS512", "rs512 token"),
    (Signed::PS256, "PS256", "ps256 token"),
    (Signed::PS384, "PS384", "ps384 token"),
    (Signed::PS512, "PS512", "ps512 token"),
    (Signed::ES256, "ES256", "es256 token"),
    (Signed::ES384, "ES384", "es384 token"),
    (Signed::EdDSA, "EdDSA", "eddsa token"),
];

fn pair(name: &str) -> Pair {
    match name {
        "ES256" => Pair::p256(),
        "ES384" => Pair::p384(),
        "EdDSA" => Pair::ed25519(),
        _ => Pair::rsa(),
    }
}

fn reader(key: Key) -> Tokens {
    Tokens::new(TokenOptions::default()).key(key)
}

#[test]
fn a_token_of_every_algorithm_is_read_with_its_public_key_in_pem() {
    for (algorithm, name, rule) in ALL {
        let pair = pair(name);
        let token = pair.sign(algorithm, &format!(r#"{{"alg":"{name}"}}"#), r#"{"sub":"ris1"}"#);
        let identity = reader(Key::public_pem(pair.public).unwrap()).verify_now(&token, at(NOW)).unwrap();
        assert_eq!((identity.user.as_str(), &*identity.rule), ("ris1", rule));
    }
}

#[test]
fn a_secret_is_for_hashes_that_are_not_longer() {
    for (len, accepted) in [(32, 1), (47, 1), (48, 2), (63, 2), (64, 3), (200, 3)] {
        let secret = vec![b'k'; len];
        let tokens = reader(Key::secret(&secret).unwrap());
        for (index, (algorithm, name)) in
            [(Signed::HS256, "HS256"), (Signed::HS384, "HS384"), (Signed::HS512, "HS512")].into_iter().enumerate()
        {
            let key = jsonwebtoken::EncodingKey::from_secret(&secret);
            let token = super::signed_by(algorithm, &key, format!(r#"{{"alg":"{name}"}}"#), r#"{"sub":"a"}"#);
            let verdict = tokens.verify_now(&token, at(NOW)).map(|identity| identity.rule);
            assert_eq!(verdict.is_ok(), index < accepted, "{len} bytes, {name}: {verdict:?}");
        }
    }
}

#[test]
fn a_public_key_is_no_shared_secret_in_any_encoding() {
    let pem = Pair::rsa().public;
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(&base64).unwrap();
    let jwk = rsa_jwk("");
    let reader = reader(Key::public_pem(pem).unwrap());
    for secret in [pem.as_bytes(), base64.as_bytes(), &der, jwk.as_bytes()] {
        assert_eq!(Key::secret(secret).unwrap_err(), InvalidKey::Secret(WeakSecret::AsymmetricKey));
        // Whoever knows the public key signs with it, as if it were the secret that the broker has.
        let forged = signed_with(secret, HEADER, r#"{"sub":"admin"}"#);
        let refusal = reader.verify_now(&forged, at(NOW)).unwrap_err();
        assert!(refusal.message.starts_with("the token is signed with HS256, only RS256, "), "{refusal}");
        let disguised = signed_with(secret, r#"{"alg":"RS256"}"#, r#"{"sub":"admin"}"#);
        assert_eq!(reader.verify_now(&disguised, at(NOW)).unwrap_err().message, "the token's signature does not match");
    }
}

#[test]
fn a_key_of_one_kind_takes_no_token_of_another() {
    for (algorithm, name, _) in ALL {
        let token = pair(name).sign(algorithm, &format!(r#"{{"alg":"{name}"}}"#), r#"{"sub":"ris1"}"#);
        for (_, other, _) in ALL {
            let key = Key::public_pem(pair(other).public).unwrap();
            let accepts = key.algorithms().iter().any(|algorithm| algorithm.name() == name);
            assert_eq!(reader(key).verify_now(&token, at(NOW)).is_ok(), accepts, "a token of {name}, a key of {other}");
        }
    }
}

#[test]
fn a_json_web_key_says_what_it_is_for() {
    let token = Pair::rsa().sign(Signed::RS256, r#"{"alg":"RS256","kid":"one"}"#, r#"{"sub":"ris1"}"#);
    let check = |more: &str, holds: bool| {
        let key = Key::jwk(&rsa_jwk(more)).unwrap();
        assert_eq!(reader(key).verify_now(&token, at(NOW)).is_ok(), holds, "{more}");
    };
    check("", true);
    check(r#","alg":"RS256","use":"sig","key_ops":["verify"]"#, true);
    check(r#","alg":"PS256""#, false);
    check(r#","kid":"one""#, true);
    check(r#","kid":"two""#, false);
    let secret = BASE64.encode([7; 32]);
    assert_eq!(Key::jwk(&format!(r#"{{"kty":"oct","k":"{secret}"}}"#)).unwrap().algorithms(), [Algorithm::Hs256]);
    assert_eq!(Key::public_pem(include_str!("../keys/rsa.pkcs1.pem")).unwrap().algorithms().len(), 6);
}

#[test]
fn what_is_no_key_is_told_with_the_cure() {
    let check = |key: Result<Key, InvalidKey>, expected: &str| {
        let error = key.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check(Key::secret(""), "the secret is empty; make one of at least 32 random bytes");
    check(Key::secret("short"), "the secret has 5 bytes, at least 32 are needed; make one with `openssl rand");
    for private in
        [include_str!("../keys/rsa.private.pem"), include_str!("../keys/p256.private.pem"), include_str!("../keys/ed25519.private.pem")]
    {
        check(Key::public_pem(private), "this is a private key; give the broker the public one");
    }
    check(Key::public_pem(include_str!("../keys/rsa1024.pem")), "the RSA key has 1024 bits, 2048 to 4096 are needed");
    check(Key::public_pem(include_str!("../keys/p521.pem")), "this kind of key is not known");
    check(Key::public_pem(""), "this is not a public key in PEM");
    check(Key::public_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), "this is not a public key in PEM");
    check(Key::public_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"), "this kind of key is not known");
    check(Key::jwk("[]"), "this is not a JSON Web Key");
    check(Key::jwk(r#"{"kty":"RSA"}"#), "this is not a JSON Web Key: `n` is missing");
    check(Key::jwk(r#"{"kty":"EC","crv":"P-521"}"#), "this kind of key is not known");
    check(Key::jwk(&rsa_jwk(r#","use":"enc""#)), "this is not a JSON Web Key: its `use`");
    check(Key::jwk(&rsa_jwk(r#","alg":"HS256""#)), "the key is not for HS256");
    check(Key::jwk(&rsa_jwk(r#","d":"AQAB""#)), "this is a private key");
    check(Key::jwk(r#"{"kty":"oct","k":"AAAA"}"#), "the secret has 3 bytes");
    check(Key::jwk(r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#), "this kind of key is not known");
    let nowhere = BASE64.encode([1; 32]);
    check(Key::jwk(&format!(r#"{{"kty":"EC","crv":"P-256","x":"{nowhere}","y":"{nowhere}"}}"#)), "the key cannot be read");
    let even = format!(r#"{{"kty":"RSA","n":"{}","e":"AQAA"}}"#, BASE64.encode([0xff; 256]));
    check(Key::jwk(&even), "the key cannot be read");
    check(Key::secret([1; 32]).unwrap().id("a b"), "a key's id has 1 to 128 bytes");
}

#[test]
fn a_key_on_a_curve_that_is_not_supported_verifies_nothing() {
    // Its point is as long as one of P-256.
    let taken = Key::public_pem(include_str!("../keys/secp256k1.pem"));
    assert_eq!(taken.unwrap_err(), InvalidKey::Unreadable);
}

#[test]
fn what_is_shown_of_a_key_is_not_the_key() {
    let shown = format!("{:?}", reader(Key::secret("hunter2-hunter2-hunter2-hunter2-hunter2").unwrap().id("k1").unwrap()));
    assert!(shown.contains("Hs256") && shown.contains("k1") && !shown.contains("hunter2"), "{shown}");
}

/// The public RSA key of the tests as a JSON Web Key, with these fields more.
pub(crate) fn rsa_jwk(more: &str) -> String {
    let base64: String = include_str!("../keys/rsa.pem").lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).unwrap();
    // SubjectPublicKeyInfo of a 2048 bit key ends with the modulus (257 bytes with its sign) and the exponent (5 bytes with its header).
    let modulus = &der[der.len() - 5 - 256..der.len() - 5];
    format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"{more}}}"#, BASE64.encode(modulus))
}
