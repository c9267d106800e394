//! What the application decides: `ticket` stands for claims of its own, `rpc` calls its hook.

use broker_core::{Payload, Refusal, RefusalKind};
use bytes::Bytes;

use crate::api::json::Value;

/// The longest claims of a ticket, in bytes: they are kept until it is used.
const CLAIMS_MAX_BYTES: usize = 16 * 1024;

/// Make a ticket that stands for claims.
#[derive(Debug)]
pub(crate) struct TicketCall {
    /// A JSON object, as in a token: the user is `sub`.
    pub(crate) claims: Bytes,
}

/// Call a method of the application.
#[derive(Debug)]
pub(crate) struct RpcCall {
    pub(crate) method: String,
    pub(crate) params: Payload,
}

impl TicketCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let known = arguments.fields(&["user", "sub", "groups", "channels", "tenant"])?;
        for text in ["user", "sub", "tenant"] {
            known.text(text)?;
        }
        for list in ["groups", "channels"] {
            known.optional(list).map(Value::texts).transpose()?;
        }
        if let (Some(user), Some(_)) = (known.optional("user"), known.optional("sub")) {
            return Err(user.refuse("stands beside sub, which means the same"));
        }
        let mut claims = b"{".to_vec();
        for (name, value) in arguments.entries()?.into_iter().filter(|(_, value)| !value.is_null()) {
            if claims.len() > 1 {
                claims.push(b',');
            }
            let name = if name == "user" { "sub" } else { &name };
            serde_json::to_writer(&mut claims, name).expect("text can always be written to memory");
            claims.push(b':');
            claims.extend_from_slice(value.json().as_bytes());
        }
        claims.push(b'}');
        if claims.len() > CLAIMS_MAX_BYTES {
            let message = format!("the claims have {} bytes, at most {CLAIMS_MAX_BYTES} are allowed", claims.len());
            return Err(Refusal::new(RefusalKind::LimitExceeded, message));
        }
        Ok(Self { claims: claims.into() })
    }
}

impl RpcCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["method", "params"])?;
        let method = fields.text("method")?.ok_or_else(|| fields.missing("method"))?.into_owned();
        let params = fields.raw("params").map_or("null", Value::json);
        Ok(Self { method, params: Payload::json(Bytes::copy_from_slice(params.as_bytes())) })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Call, testing::*},
        *,
    };

    #[test]
    fn the_claims_of_a_ticket_are_those_of_a_token() {
        let claims = |body: &str| match read("ticket", body).unwrap() {
            Call::Ticket(call) => String::from_utf8(call.claims.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(claims("{}"), "{}");
        let expected = r#"{"sub":"a","groups":["g"],"info":{"n": 1},"own\"":1}"#;
        assert_eq!(claims(r#"{"user":"a", "groups":["g"],"info":{"n": 1},"meta":null,"own\"":1}"#), expected);
        assert_eq!(claims(r#"{"sub":"a"}"#), r#"{"sub":"a"}"#);
        check("ticket", r#"{"user":"a","sub":"a"}"#, "user stands beside sub, which means the same", Some(8));
        check("ticket", r#"{"user":7}"#, "user must be a string, not a number", Some(8));
        check("ticket", r#"{"groups":"g"}"#, "groups must be an array, not a string", Some(10));
        check("ticket", r#"{"groups":["g",7]}"#, "groups[1] must be a string, not a number", Some(15));
        let refusal = read("ticket", &format!(r#"{{"info":"{}"}}"#, "x".repeat(CLAIMS_MAX_BYTES))).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::LimitExceeded);
    }

    #[test]
    fn a_call_of_the_application_has_a_method_and_perhaps_params() {
        let called = |body: &str| match read("rpc", body).unwrap() {
            Call::Rpc(call) => (call.method, call.params),
            other => panic!("{other:?}"),
        };
        assert_eq!(called(r#"{"method":"sum","params":[1, 2]}"#), ("sum".to_owned(), Payload::json("[1, 2]")));
        assert_eq!(called(r#"{"method":"sum"}"#), ("sum".to_owned(), Payload::json("null")));
        check("rpc", "{}", "method is missing", None);
        check("rpc", r#"{"method":""}"#, "method is missing", None);
        check("rpc", r#"{"method":7}"#, "method must be a string, not a number", Some(10));
    }
}
