//! What users are told about a product: its shape as a frame and a row, who hears it, and how a request for one is read.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use broker::{Payload, Publish, Tags, Topic};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::refused::Refused;

/// Longest title, in characters.
const TITLE_MAX: usize = 120;
/// Longest message, in characters.
const MESSAGE_MAX: usize = 2_000;
/// Longest sealed payload, in bytes of base64.
const SEALED_MAX: usize = 8 * 1024;

/// A product's number, as in `/ws/spc/product/{id}/`.
pub type ProductId = u32;

/// How much a notice matters.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// To know.
    #[default]
    Low,
    /// To look at this shift.
    Medium,
    /// To look at now.
    High,
    /// To stop for.
    Critical,
}

impl Priority {
    /// All of them, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// 1 to 4, for filters that compare.
    pub fn level(self) -> u8 {
        self as u8 + 1
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["low", "medium", "high", "critical"][*self as usize])
    }
}

impl FromStr for Priority {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found =
            Self::ALL.into_iter().find(|priority| priority.to_string().eq_ignore_ascii_case(text) || text == priority.level().to_string());
        found.ok_or("must be low, medium, high or critical (or 1 to 4)")
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse().map_err(de::Error::custom)
    }
}

/// What a notice is about: the `type` of its frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Somebody says so.
    Alert,
    /// A reading is out of specification.
    Measurement,
    /// An analysis has ended.
    Capability,
    /// The chart shows a pattern.
    RunRuleViolation,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["alert", "measurement", "capability", "run_rule_violation"][*self as usize])
    }
}

/// One notice: a frame as clients get it, and a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its name for ever: who gets it by two topics shows it once.
    pub id: String,
    /// The product.
    pub product_id: ProductId,
    /// The product's name.
    pub product: String,
    /// A word of the sender's: `OUT_OF_SPEC`, `N2`, `TOOL_WEAR`.
    pub alert_type: String,
    /// How much it matters.
    pub priority: Priority,
    /// One line; of a sealed notice, a stand-in.
    pub title: String,
    /// More lines.
    pub message: String,
    /// When it was stored, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Who said so; `line` for the measuring itself.
    pub by: String,
    /// Numbers that belong to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Title and message, encrypted in the sender's browser for the product's team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// What only who has the product's key can read. Server and broker pass it on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The nonce, base64.
    pub iv: String,
    /// AES-GCM of title and message, base64.
    pub data: String,
}

/// A request for a notice: the body of `POST /api/spc/alerts/`.
#[derive(Debug, Deserialize)]
pub struct Draft {
    /// The sender's own name for it: a retry with the same one is stored once.
    pub id: Option<String>,
    /// The product's number.
    pub product: ProductId,
    /// The sender's word.
    pub alert_type: String,
    /// How much it matters.
    pub priority: Priority,
    /// One line.
    #[serde(default)]
    pub title: String,
    /// More lines.
    #[serde(default)]
    pub message: String,
    /// In place of title and message.
    pub sealed: Option<Sealed>,
}

impl Draft {
    /// Reads a body; a mistake is named by its path.
    pub fn read(body: &[u8]) -> Result<Self, Refused> {
        let value: Value = serde_json::from_slice(body).map_err(|error| Refused::value("$", format!("is no JSON: {error}")))?;
        let object =
            value.as_object().ok_or_else(|| Refused::value("$", "must be an object with product, alert_type, priority, title, message"))?;
        for required in ["product", "alert_type", "priority"] {
            if !object.contains_key(required) {
                return Err(Refused::value(&format!("$.{required}"), "is missing"));
            }
        }
        let draft = Self {
            id: field(object, "id")?,
            product: field(object, "product")?,
            alert_type: field(object, "alert_type")?,
            priority: field(object, "priority")?,
            title: field::<Option<String>>(object, "title")?.unwrap_or_default(),
            message: field::<Option<String>>(object, "message")?.unwrap_or_default(),
            sealed: field(object, "sealed")?,
        };
        draft.check()?;
        Ok(draft)
    }

    fn check(&self) -> Result<(), Refused> {
        let word = |text: &str, max: usize| {
            (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if self.id.as_deref().is_some_and(|id| !word(id, 64) || id.len() < 8) {
            return Err(Refused::value("$.id", "must be 8 to 64 letters, digits, `-` or `_`"));
        }
        if !word(&self.alert_type, 40) {
            return Err(Refused::value("$.alert_type", "must be 1 to 40 letters, digits, `-` or `_`, as TOOL_WEAR"));
        }
        match &self.sealed {
            Some(sealed) if sealed.data.len() > SEALED_MAX || sealed.iv.len() > 32 => {
                Err(Refused::value("$.sealed", format!("must be at most {SEALED_MAX} bytes")))
            }
            Some(_) if !(self.title.is_empty() && self.message.is_empty()) => {
                Err(Refused::value("$.sealed", "stands in place of title and message"))
            }
            None if !(1..=TITLE_MAX).contains(&self.title.chars().count()) => {
                Err(Refused::value("$.title", format!("must be 1 to {TITLE_MAX} characters")))
            }
            None if self.message.chars().count() > MESSAGE_MAX => {
                Err(Refused::value("$.message", format!("must be at most {MESSAGE_MAX} characters")))
            }
            _ => Ok(()),
        }
    }

    /// The notice that it asks for.
    pub fn into_notice(self, product: &str, by: &str) -> Notice {
        let title = if self.sealed.is_some() { "Encrypted alert".to_owned() } else { self.title };
        Notice {
            kind: Kind::Alert,
            id: self.id.unwrap_or_else(new_id),
            product_id: self.product,
            product: product.to_owned(),
            alert_type: self.alert_type,
            priority: self.priority,
            title,
            message: self.message,
            at_ms: now_ms(),
            by: by.to_owned(),
            data: None,
            sealed: self.sealed,
        }
    }
}

/// One value of a body, on its own, so that the one that is wrong can be named.
fn field<T: de::DeserializeOwned>(object: &serde_json::Map<String, Value>, name: &str) -> Result<T, Refused> {
    let value = object.get(name).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|error| Refused::value(&format!("$.{name}"), error.to_string()))
}

impl Notice {
    /// Where it is published: to those who follow all their products, and to those who follow this one.
    pub fn topics(&self) -> [Topic; 2] {
        [alerts_topic(self.product_id), product_topic(self.product_id)]
    }

    /// As it is published, with the tags that subscribers filter by.
    pub fn publish(&self) -> Publish {
        let tags = [
            ("type", self.kind.to_string()),
            ("level", self.priority.level().to_string()),
            ("priority", self.priority.to_string()),
            ("alert_type", self.alert_type.clone()),
        ];
        frame(self).tags(tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Tags>())
    }
}

/// A value as a frame.
pub fn frame(value: &impl Serialize) -> Publish {
    Publish::new(json(value))
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> Payload {
    Payload::json(serde_json::to_vec(value).expect("frames are objects with text keys and finite numbers"))
}

/// Notices of a product, for who follows many and filters them.
pub fn alerts_topic(product: ProductId) -> Topic {
    format!("alerts:product.{product}").parse().expect("digits are legal")
}

/// Everything that U4's clients hear of one product.
pub fn product_topic(product: ProductId) -> Topic {
    format!("spc:product.{product}").parse().expect("digits are legal")
}

/// Every point of a product's chart.
pub fn line_topic(product: ProductId) -> Topic {
    format!("line:product.{product}").parse().expect("digits are legal")
}

/// The product that a topic of the three is about.
pub fn product_of(topic: &Topic) -> Option<ProductId> {
    topic.as_str().rsplit_once(":product.")?.1.parse().ok()
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A name for a notice: later ones sort behind earlier ones.
pub fn new_id() -> String {
    format!("{:012x}-{:08x}", now_ms(), fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<Priority, &str>) {
        let read = Draft::read(body.as_bytes()).map(|draft| draft.priority);
        match (read, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(refused), Err(expected)) => assert!(refused.to_string().contains(expected), "{refused}"),
            (found, _) => panic!("{body}: {found:?}"),
        }
    }

    #[test]
    fn a_draft_is_read_and_its_mistakes_are_named_by_their_path() {
        check(r#"{"product":1,"alert_type":"TOOL_WEAR","priority":"high","title":"t","message":"m"}"#, Ok(Priority::High));
        check(r#"{"product":1,"alert_type":"x","priority":"HIGH","title":"공구 마모"}"#, Ok(Priority::High));
        check(r#"{"product":1,"alert_type":"x","priority":4,"title":"t"}"#, Ok(Priority::Critical));
        check(r#"{"product":1,"alert_type":"x","priority":1,"sealed":{"iv":"a","data":"b"}}"#, Ok(Priority::Low));
        check("[]", Err("`$` must be an object"));
        check("{", Err("`$` is no JSON"));
        check(r#"{"alert_type":"x","priority":"high","title":"t"}"#, Err("`$.product` is missing"));
        check(r#"{"product":"one","alert_type":"x","priority":"high","title":"t"}"#, Err("`$.product` invalid type"));
        check(r#"{"product":1,"alert_type":"a b","priority":"high","title":"t"}"#, Err("`$.alert_type` must be"));
        check(r#"{"product":1,"alert_type":"x","priority":"urgent","title":"t"}"#, Err("`$.priority` must be low"));
        check(r#"{"product":1,"alert_type":"x","priority":"low"}"#, Err("`$.title` must be 1 to 120"));
        check(
            r#"{"product":1,"alert_type":"x","priority":"low","title":"t","sealed":{"iv":"a","data":"b"}}"#,
            Err("`$.sealed` stands in place"),
        );
        check(r#"{"id":"x","product":1,"alert_type":"x","priority":"low","title":"t"}"#, Err("`$.id` must be"));
    }

    #[test]
    fn topics_name_their_product() {
        assert_eq!(product_of(&alerts_topic(7)), Some(7));
        assert_eq!(product_of(&"spc:product.x".parse().unwrap()), None);
    }
}
