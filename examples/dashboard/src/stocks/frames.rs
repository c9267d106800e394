//! `REG` and `REMOVE` read into requests, with every bad element named by its JSON path; ticks written. What a session has registered lives in
//! `registrar`.

use broker::Topic;
use serde::Serialize;
use serde_json::{Value, json};

/// One share that is traded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its code: six digits.
    pub code: &'static str,
    /// What the company is called.
    pub name: &'static str,
    /// Where its price begins, in won.
    pub price: i64,
}

/// What is traded at the exchange.
pub const ITEMS: [Item; 6] = [
    Item { code: "005930", name: "삼성전자", price: 71_300 },
    Item { code: "000660", name: "SK하이닉스", price: 186_500 },
    Item { code: "035420", name: "NAVER", price: 204_000 },
    Item { code: "005380", name: "현대차", price: 243_500 },
    Item { code: "035720", name: "카카오", price: 41_850 },
    Item { code: "068270", name: "셀트리온", price: 178_900 },
];

/// What can be had of an item: trades, and the best quotes.
pub const KINDS: [&str; 2] = ["0B", "0D"];

/// Most elements of one array.
const ELEMENTS_MAX: usize = 100;

/// One item and one kind of data.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Registration {
    /// The item's code.
    pub item: &'static str,
    /// `0B` or `0D`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl Registration {
    /// Where its ticks are published: `ticks:005930.0B`.
    pub fn topic(self) -> Topic {
        format!("ticks:{}.{}", self.item, self.kind).parse().expect("codes and kinds are legal in names")
    }
}

/// What a frame asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Register; earlier registrations of the group are kept, or dropped.
    Register {
        /// Whether they are kept.
        keep: bool,
    },
    /// Remove.
    Remove,
}

/// A frame that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// What to do.
    pub order: Order,
    /// The group that it is about.
    pub group: String,
    /// What could be read.
    pub registrations: Vec<Registration>,
    /// What could not.
    pub mistakes: Vec<Mistake>,
}

/// One bad element.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Mistake {
    /// Where it stands: `$.data[0].item[1]`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Mistake {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Reads a frame. Good elements count beside bad ones; without a good `trnm`, `grp_no` and `refresh` nothing does, and all that is wrong is told.
pub fn read(text: &[u8]) -> Result<Request, Vec<Mistake>> {
    let frame: Value = serde_json::from_slice(text).map_err(|error| vec![Mistake::new("$", format!("not JSON: {error}"))])?;
    let Value::Object(frame) = &frame else { return Err(vec![Mistake::new("$", "not an object")]) };
    let mut mistakes = Vec::new();
    let order = match (frame.get("trnm").and_then(Value::as_str), frame.get("refresh")) {
        (Some("REMOVE"), _) => Some(Order::Remove),
        (Some("REG"), None) => Some(Order::Register { keep: true }),
        (Some("REG"), Some(refresh)) => match refresh.as_str() {
            Some("1") => Some(Order::Register { keep: true }),
            Some("0") => Some(Order::Register { keep: false }),
            _ => {
                mistakes.push(Mistake::new("$.refresh", "either \"1\", which keeps earlier registrations, or \"0\", which drops them"));
                None
            }
        },
        _ => {
            mistakes.push(Mistake::new("$.trnm", "either \"REG\" or \"REMOVE\""));
            None
        }
    };
    let group = frame
        .get("grp_no")
        .and_then(Value::as_str)
        .filter(|group| (1..=4).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_digit()));
    if group.is_none() {
        mistakes.push(Mistake::new("$.grp_no", "a text of one to four digits: \"1\""));
    }
    let registrations = data(frame.get("data"), &mut mistakes);
    match (order, group) {
        (Some(order), Some(group)) => Ok(Request { order, group: group.to_owned(), registrations, mistakes }),
        _ => Err(mistakes),
    }
}

fn data(data: Option<&Value>, mistakes: &mut Vec<Mistake>) -> Vec<Registration> {
    let mut registrations = Vec::new();
    for (index, entry) in array(data, "$.data", mistakes).iter().enumerate() {
        let path = format!("$.data[{index}]");
        if !entry.is_object() {
            mistakes.push(Mistake::new(path, "an object with two arrays, item and type"));
            continue;
        }
        let known: Vec<_> = ITEMS.iter().map(|item| item.code).collect();
        let items = texts(&entry["item"], &format!("{path}.item"), &known, mistakes);
        let kinds = texts(&entry["type"], &format!("{path}.type"), &KINDS, mistakes);
        registrations.extend(items.iter().flat_map(|item| kinds.iter().map(move |kind| Registration { item, kind })));
    }
    registrations
}

/// The elements of an array that are known; the others are mistakes.
fn texts(value: &Value, path: &str, known: &[&'static str], mistakes: &mut Vec<Mistake>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (index, element) in array(Some(value), path, mistakes).iter().enumerate() {
        if let Some(known) = known.iter().find(|known| element.as_str() == Some(known)) {
            found.push(*known);
        } else {
            let message = format!("{} is not one of {}", shown(element), known.join(", "));
            mistakes.push(Mistake::new(format!("{path}[{index}]"), message));
        }
    }
    found
}

fn array<'a>(value: Option<&'a Value>, path: &str, mistakes: &mut Vec<Mistake>) -> &'a [Value] {
    match value.and_then(Value::as_array) {
        Some(array) if !array.is_empty() && array.len() <= ELEMENTS_MAX => array,
        _ => {
            mistakes.push(Mistake::new(path, format!("an array of 1 to {ELEMENTS_MAX} elements")));
            &[]
        }
    }
}

/// What was sent, short enough to be said again.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 32 { format!("{}…", text.chars().take(31).collect::<String>()) } else { text }
}

/// The frame of one tick.
pub fn tick(registration: Registration, values: &Value) -> Value {
    let name = ITEMS.iter().find(|item| item.code == registration.item).map_or("", |item| item.name);
    json!({"trnm": "REAL", "data": [{"item": registration.item, "type": registration.kind, "name": name, "values": values}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(frame: &str, expected: &[&str]) {
        let mistakes = read(frame.as_bytes()).map_or_else(|mistakes| mistakes, |request| request.mistakes);
        assert_eq!(mistakes.iter().map(|mistake| mistake.path.as_str()).collect::<Vec<_>>(), expected, "{frame}");
    }

    #[test]
    fn every_bad_element_is_named_by_its_path() {
        check(r#"{"trnm":"REG","grp_no":"1","refresh":"1","data":[{"item":["005930"],"type":["0B"]}]}"#, &[]);
        check("REG 005930", &["$"]);
        check("[]", &["$"]);
        check("{}", &["$.trnm", "$.grp_no", "$.data"]);
        check(r#"{"trnm":"REG","grp_no":1,"refresh":1,"data":{}}"#, &["$.refresh", "$.grp_no", "$.data"]);
        check(
            r#"{"trnm":"REG","grp_no":"1","data":[{"item":["5930","005930",7],"type":["0B","XX"]},"005930",{"item":[]}]}"#,
            &["$.data[0].item[0]", "$.data[0].item[2]", "$.data[0].type[1]", "$.data[1]", "$.data[2].item", "$.data[2].type"],
        );
    }

    #[test]
    fn good_elements_count_beside_bad_ones() {
        let request =
            read(br#"{"trnm":"REG","grp_no":"1","refresh":"0","data":[{"item":["000660","nothing"],"type":["0B","0D"]}]}"#).unwrap();
        let registered: Vec<_> = request.registrations.iter().map(|one| one.topic().to_string()).collect();
        assert_eq!(
            (request.order, registered),
            (Order::Register { keep: false }, vec!["ticks:000660.0B".to_owned(), "ticks:000660.0D".to_owned()])
        );
    }
}
