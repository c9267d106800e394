//! Filters on tags as both protocols carry them: the nodes of the Centrifuge protocol, in JSON.

use broker_core::{Filter, FilterNode, Refusal};
use serde::Deserialize;

use super::Object;

// spec: Centrifuge client protocol, FilterNode.
#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    op: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    cmp: Option<String>,
    #[serde(default)]
    val: Option<String>,
    #[serde(default)]
    vals: Option<Vec<String>>,
    #[serde(default)]
    nodes: Option<Vec<Node>>,
}

impl From<Node> for FilterNode {
    fn from(node: Node) -> Self {
        Self {
            op: node.op.unwrap_or_default(),
            key: node.key.unwrap_or_default(),
            cmp: node.cmp.unwrap_or_default(),
            val: node.val.unwrap_or_default(),
            vals: node.vals.unwrap_or_default(),
            nodes: node.nodes.into_iter().flatten().map(Self::from).collect(),
        }
    }
}

/// The filter under a key, if there is one. Its depth was checked with the frame.
pub(crate) fn filter<const N: usize>(object: &Object<'_, N>, name: &str) -> Result<Option<Filter>, Refusal> {
    let Some(json) = object.value(name) else { return Ok(None) };
    read_filter(json).map(Some).map_err(|why| object.refuse(name, &why))
}

/// Reads a filter of a URL or a command: at most as deep as JSON is read anywhere. The error says what the text is, as `is no filter: ..`.
pub fn read_filter(json: &str) -> Result<Filter, String> {
    let node: Node = serde_json::from_str(json)
        .map_err(|_| "is no filter: an object with key, cmp and val or vals, or with op and nodes, all of them text".to_owned())?;
    Filter::new(node.into()).map_err(|error| format!("is no filter: {error}"))
}
