//! The embedded defaults: backplane, presence, control and registry of a single node, in memory.

mod backplane;
mod control;
mod ledger;
mod log;
mod presence;
mod registry;
mod rows;
mod seen;

pub use backplane::MemoryBackplane;
pub use control::MemoryControl;
pub use presence::MemoryPresence;
pub use registry::MemoryRegistry;
