//! The scripts of presence.

use std::sync::LazyLock;

use crate::script::Script;

fn opened(source: &str) -> Script {
    Script::new(format!("{}{source}", include_str!("../lua/presence/common.lua")))
}

pub(super) static UPSERT: LazyLock<Script> = LazyLock::new(|| opened(include_str!("../lua/presence/upsert.lua")));
pub(super) static REMOVE: LazyLock<Script> = LazyLock::new(|| opened(include_str!("../lua/presence/remove.lua")));
pub(super) static SETTLE: LazyLock<Script> = LazyLock::new(|| opened(include_str!("../lua/presence/settle.lua")));
pub(super) static CLEAR: LazyLock<Script> = LazyLock::new(|| opened(include_str!("../lua/presence/clear.lua")));
