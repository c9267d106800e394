//! The scripts about nodes.

use std::sync::LazyLock;

use crate::script::Script;

pub(super) static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/nodes/beat.lua")));
pub(super) static GOODBYE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/nodes/goodbye.lua")));
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/nodes/claim.lua")));
pub(super) static CLEARED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/nodes/cleared.lua")));
pub(super) static ASK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/nodes/ask.lua")));
