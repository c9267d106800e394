//! The embedded defaults: backplane, presence and control of a single node, in memory.

mod backplane;
mod control;
mod presence;

pub use backplane::MemoryBackplane;
pub use control::MemoryControl;
pub use presence::MemoryPresence;
