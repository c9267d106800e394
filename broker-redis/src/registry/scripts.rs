//! The scripts of the registry.

use std::sync::LazyLock;

use crate::script::Script;

pub(super) static JOIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/registry/join.lua")));
pub(super) static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('HDEL', KEYS[1], ARGV[1])"));
pub(super) static GROUPS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/registry/groups.lua")));
pub(super) static REVOKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/registry/revoke.lua")));
pub(super) static REVOKED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/registry/revoked.lua")));
pub(super) static SINCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/registry/since.lua")));
pub(super) static PUT: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])"));
