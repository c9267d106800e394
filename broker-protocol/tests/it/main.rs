//! The codecs as their users see them: frames in, commands out; replies and pushes in, frames out.

mod centrifuge_decode;
mod centrifuge_encode;
mod codes;
#[cfg(feature = "testing")]
mod generated;
mod hostile;
mod plain_decode;
mod plain_encode;
mod poison;
mod robustness;
mod sse_encode;
mod support;
