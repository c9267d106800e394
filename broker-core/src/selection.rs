//! What of a topic one subscription gets, and how often: a filter on tags, and a pace. Who applies them does not live here.

use std::{sync::Arc, time::Duration};

use crate::{Publication, Tags};

/// What of a topic one subscription gets, and how often. What it leaves out is no gap.
///
/// ```
/// use std::time::Duration;
/// use broker_core::{Filter, FilterNode, Selection};
///
/// let filter = Filter::new(FilterNode::test("priority", "eq", ["high"]))?;
/// let selection = Selection::ALL.filter(filter).pace(Duration::from_millis(250));
/// # Ok::<(), broker_core::InvalidFilter>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Selection {
    filter: Option<Filter>,
    pace: Option<Duration>,
}

impl Selection {
    /// Everything, at once.
    pub const ALL: Self = Self { filter: None, pace: None };
    /// Shortest pace: a thousand updates a second.
    pub const PACE_MIN: Duration = Duration::from_millis(1);
    /// Longest pace.
    pub const PACE_MAX: Duration = Duration::from_secs(3600);

    /// Only publications whose tags pass.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// At most one update in this time, of each key in keyed topics; the newest always arrives. Kept between [`Selection::PACE_MIN`] and
    /// [`Selection::PACE_MAX`].
    pub fn pace(mut self, pace: Duration) -> Self {
        self.pace = Some(pace.clamp(Self::PACE_MIN, Self::PACE_MAX));
        self
    }

    /// Whether everything is wanted, at once.
    pub fn is_all(&self) -> bool {
        self.filter.is_none() && self.pace.is_none()
    }

    /// Whether it leaves out publications by their tags.
    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    pub(crate) fn interval(&self) -> Option<Duration> {
        self.pace
    }

    /// Whether the publication's tags pass.
    pub(crate) fn wants(&self, publication: &Publication) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.passes(publication.tags.as_deref()))
    }

    /// Leaves of what was missed what this subscription gets.
    pub(crate) fn apply(&self, missed: &mut Vec<Arc<Publication>>) {
        missed.retain(|publication| self.wants(publication));
        if self.pace.is_some() {
            newest_of_each_key(missed);
        }
    }
}

/// Leaves the newest publication of each key, and the newest without one.
fn newest_of_each_key(publications: &mut Vec<Arc<Publication>>) {
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<Arc<Publication>> = Vec::new();
    for publication in publications.iter().rev() {
        if seen.insert(publication.key.as_deref()) {
            kept.push(publication.clone());
        }
    }
    kept.reverse();
    *publications = kept;
}

/// A condition on the tags of publications. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Filter(Arc<Node>);

/// One node of a [`Filter`] as protocols carry it: a test of one tag, or `and`, `or`, `not` over further nodes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FilterNode {
    /// `and`, `or`, `not`; empty: a test.
    pub op: String,
    /// The tag that is tested.
    pub key: String,
    /// `eq`, `neq`, `in`, `nin`, `ex`, `nex`, `sw`, `ew`, `ct`, `lt`, `lte`, `gt`, `gte`.
    pub cmp: String,
    /// With what it is compared.
    pub val: String,
    /// With what `in` and `nin` compare it.
    pub vals: Vec<String>,
    /// What `and`, `or` and `not` are about.
    pub nodes: Vec<FilterNode>,
}

impl FilterNode {
    /// A test of one tag.
    pub fn test<const N: usize>(key: &str, cmp: &str, values: [&str; N]) -> Self {
        let mut node = Self { key: key.to_owned(), cmp: cmp.to_owned(), ..Self::default() };
        match (cmp, values.as_slice()) {
            ("in" | "nin", values) => node.vals = values.iter().map(|value| (*value).to_owned()).collect(),
            (_, [value, ..]) => (*value).clone_into(&mut node.val),
            _ => {}
        }
        node
    }

    /// Nodes under `and`, `or` or `not`.
    pub fn group(op: &str, nodes: Vec<Self>) -> Self {
        Self { op: op.to_owned(), nodes, ..Self::default() }
    }
}

/// Why something is no filter.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFilter {
    /// The operator is unknown.
    #[error("a filter knows the operators \"and\", \"or\" and \"not\", not \"{0}\"")]
    Operator(String),
    /// The comparison is unknown.
    #[error("a filter compares by eq, neq, in, nin, ex, nex, sw, ew, ct, lt, lte, gt or gte, not by \"{0}\"")]
    Comparison(String),
    /// A test without a tag.
    #[error("a test needs the \"key\" of a tag")]
    NoKey,
    /// `and`, `or` or `not` over the wrong number of nodes.
    #[error("\"{op}\" needs {needed} in \"nodes\"")]
    Nodes {
        /// The operator.
        op: String,
        /// How many.
        needed: &'static str,
    },
    /// `in` or `nin` without values.
    #[error("\"{0}\" needs its values in \"vals\"")]
    NoValues(String),
    /// An order of something that is no number.
    #[error("\"{cmp}\" compares numbers, and \"{value}\" is none")]
    NoNumber {
        /// The comparison.
        cmp: String,
        /// What is no number, its beginning.
        value: String,
    },
    /// Larger than a filter may be.
    #[error("a filter may have {max} {what}")]
    TooLarge {
        /// Of what it has too much.
        what: &'static str,
        /// The bound.
        max: usize,
    },
}

impl Filter {
    /// Most nodes.
    pub const NODES_MAX: usize = 64;
    /// Most nodes inside one another.
    pub const DEPTH_MAX: usize = 8;
    /// Most values of one `in` or `nin`.
    pub const VALUES_MAX: usize = 128;
    /// Longest tag or value, in bytes.
    pub const TEXT_MAX_LEN: usize = 256;

    /// A filter of these nodes.
    ///
    /// # Errors
    /// A node makes no sense, or there are too many; the message says which rule it breaks.
    pub fn new(node: FilterNode) -> Result<Self, InvalidFilter> {
        let mut nodes = 0;
        Node::new(node, 1, &mut nodes).map(|node| Self(Arc::new(node)))
    }

    /// Whether a publication with these tags passes.
    pub fn passes(&self, tags: Option<&Tags>) -> bool {
        self.0.passes(tags)
    }
}

#[derive(Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test { key: String, test: Test },
}

#[derive(Debug)]
enum Test {
    Is(String),
    IsNot(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Less(f64),
    LessOrEqual(f64),
    Greater(f64),
    GreaterOrEqual(f64),
}

impl Node {
    fn new(node: FilterNode, depth: usize, nodes: &mut usize) -> Result<Self, InvalidFilter> {
        *nodes += 1;
        if *nodes > Filter::NODES_MAX {
            return Err(InvalidFilter::TooLarge { what: "nodes", max: Filter::NODES_MAX });
        }
        if depth > Filter::DEPTH_MAX {
            return Err(InvalidFilter::TooLarge { what: "nodes inside one another", max: Filter::DEPTH_MAX });
        }
        let FilterNode { op, key, cmp, val, vals, nodes: inner } = node;
        if op.is_empty() {
            return Test::new(&key, cmp, val, vals).map(|test| Self::Test { key, test });
        }
        let count = inner.len();
        let mut inner = inner.into_iter().map(|node| Self::new(node, depth + 1, nodes)).collect::<Result<Vec<_>, _>>()?;
        match op.as_str() {
            "and" | "or" if count == 0 => Err(InvalidFilter::Nodes { op, needed: "at least one node" }),
            "and" => Ok(Self::All(inner)),
            "or" => Ok(Self::Any(inner)),
            "not" => match (inner.pop(), inner.is_empty()) {
                (Some(node), true) => Ok(Self::Not(Box::new(node))),
                _ => Err(InvalidFilter::Nodes { op, needed: "exactly one node" }),
            },
            _ => Err(InvalidFilter::Operator(cut(&op))),
        }
    }

    fn passes(&self, tags: Option<&Tags>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.passes(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.passes(tags)),
            Self::Not(node) => !node.passes(tags),
            Self::Test { key, test } => test.passes(tags.and_then(|tags| tags.get(key)).map(String::as_str)),
        }
    }
}

impl Test {
    fn new(key: &str, cmp: String, val: String, vals: Vec<String>) -> Result<Self, InvalidFilter> {
        if key.is_empty() {
            return Err(InvalidFilter::NoKey);
        }
        if vals.len() > Filter::VALUES_MAX {
            return Err(InvalidFilter::TooLarge { what: "values in one test", max: Filter::VALUES_MAX });
        }
        if [key, &val].into_iter().chain(vals.iter().map(String::as_str)).any(|text| text.len() > Filter::TEXT_MAX_LEN) {
            return Err(InvalidFilter::TooLarge { what: "bytes in a tag or value", max: Filter::TEXT_MAX_LEN });
        }
        let number = || number(&val).ok_or_else(|| InvalidFilter::NoNumber { cmp: cut(&cmp), value: cut(&val) });
        Ok(match cmp.as_str() {
            "in" | "nin" if vals.is_empty() => return Err(InvalidFilter::NoValues(cmp)),
            "eq" => Self::Is(val),
            "neq" => Self::IsNot(val),
            "in" => Self::In(vals),
            "nin" => Self::NotIn(vals),
            "ex" => Self::Exists,
            "nex" => Self::Missing,
            "sw" => Self::StartsWith(val),
            "ew" => Self::EndsWith(val),
            "ct" => Self::Contains(val),
            "lt" => Self::Less(number()?),
            "lte" => Self::LessOrEqual(number()?),
            "gt" => Self::Greater(number()?),
            "gte" => Self::GreaterOrEqual(number()?),
            _ => return Err(InvalidFilter::Comparison(cut(&cmp))),
        })
    }

    /// A tag that is not there is unlike every value.
    fn passes(&self, tag: Option<&str>) -> bool {
        let compares = |is: fn(&f64, &f64) -> bool, value: &f64| tag.and_then(number).is_some_and(|tag| is(&tag, value));
        match self {
            Self::Is(value) => tag == Some(value),
            Self::IsNot(value) => tag != Some(value),
            Self::In(values) => tag.is_some_and(|tag| values.iter().any(|value| value == tag)),
            Self::NotIn(values) => tag.is_none_or(|tag| values.iter().all(|value| value != tag)),
            Self::Exists => tag.is_some(),
            Self::Missing => tag.is_none(),
            Self::StartsWith(value) => tag.is_some_and(|tag| tag.starts_with(value)),
            Self::EndsWith(value) => tag.is_some_and(|tag| tag.ends_with(value)),
            Self::Contains(value) => tag.is_some_and(|tag| tag.contains(value)),
            Self::Less(value) => compares(f64::lt, value),
            Self::LessOrEqual(value) => compares(f64::le, value),
            Self::Greater(value) => compares(f64::gt, value),
            Self::GreaterOrEqual(value) => compares(f64::ge, value),
        }
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The beginning of a client's text.
fn cut(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(node: FilterNode, tags: &[(&str, &str)], passes: bool) {
        let tags: Tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(Filter::new(node).expect("a filter").passes(Some(&tags)), passes);
    }

    #[test]
    fn a_test_looks_at_one_tag() {
        let tags = [("ticker", "AAPL"), ("price", "10.5")];
        for (cmp, value, passes) in [
            ("eq", "AAPL", true),
            ("neq", "AAPL", false),
            ("in", "AAPL", true),
            ("nin", "AAPL", false),
            ("ex", "", true),
            ("nex", "", false),
            ("sw", "AA", true),
            ("ew", "AA", false),
            ("ct", "AP", true),
        ] {
            check(FilterNode::test("ticker", cmp, [value]), &tags, passes);
        }
        for (cmp, passes) in [("lt", false), ("lte", true), ("gt", false), ("gte", true)] {
            check(FilterNode::test("price", cmp, ["10.50"]), &tags, passes);
            check(FilterNode::test("ticker", cmp, ["10.50"]), &tags, false);
        }
        for (cmp, passes) in [("eq", false), ("neq", true), ("in", false), ("nin", true), ("ex", false), ("nex", true), ("lt", false)] {
            check(FilterNode::test("missing", cmp, ["1"]), &tags, passes);
        }
        assert!(Filter::new(FilterNode::test("a", "nex", [])).expect("a filter").passes(None));
    }

    #[test]
    fn groups_combine() {
        let (a, b) = (FilterNode::test("a", "eq", ["1"]), FilterNode::test("b", "eq", ["1"]));
        for (op, tags, passes) in
            [("and", &[("a", "1")][..], false), ("and", &[("a", "1"), ("b", "1")], true), ("or", &[("b", "1")], true), ("or", &[], false)]
        {
            check(FilterNode::group(op, vec![a.clone(), b.clone()]), tags, passes);
        }
        check(FilterNode::group("not", vec![a]), &[("a", "1")], false);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_everything_is_bounded() {
        let leaf = || FilterNode::test("a", "eq", ["1"]);
        let deep = (0..Filter::DEPTH_MAX).fold(leaf(), |node, _| FilterNode::group("not", vec![node]));
        let wide = FilterNode::group("or", (0..Filter::NODES_MAX).map(|_| leaf()).collect());
        let long = "x".repeat(Filter::TEXT_MAX_LEN + 1);
        for (node, text) in [
            (FilterNode::test("", "eq", ["1"]), "needs the \"key\""),
            (FilterNode::test("a", "like", ["1"]), "not by \"like\""),
            (FilterNode::test("a", "lt", ["x"]), "\"x\" is none"),
            (FilterNode::test("a", "lt", ["NaN"]), "\"NaN\" is none"),
            (FilterNode::test("a", "in", []), "needs its values"),
            (FilterNode::group("xor", vec![leaf()]), "not \"xor\""),
            (FilterNode::group("and", vec![]), "at least one"),
            (FilterNode::group("not", vec![leaf(), leaf()]), "exactly one"),
            (deep, "8 nodes inside one another"),
            (wide, "64 nodes"),
            (FilterNode::test("a", "eq", [&long]), "256 bytes"),
        ] {
            let error = Filter::new(node).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
