//! A connection's way out: the trait that transports implement.

use std::io;

use bytes::Bytes;

/// A connection's way out. Only the connection's shard writes to it.
///
/// After a call that took less than everything, the outlet remembers that it is wanted, **then** wakes the connection's task; the task takes
/// the memory back **before** it waits for room and then calls `Connection::writable`. So no wake-up is lost.
pub trait Outlet: Send + 'static {
    /// Takes as many bytes from the front of `chunks` as fit now, and says how many.
    ///
    /// `Ok` with less than everything, or `WouldBlock`: try again after `Connection::writable`. Any other error: the connection is broken.
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize>;

    /// A write will follow soon. Whatever it needs may be read from memory here, while other connections' is on its way too: with thousands of
    /// connections, waiting for memory is most of what a write costs above the system call. Changes nothing.
    fn warm(&self) {}

    /// The connection must end at once: of what was taken nothing more goes to the kernel once this returns, and `last` is the last thing that
    /// may, where it still can be told.
    ///
    /// The default fits outlets whose `try_write` hands over to the kernel itself.
    fn cut(&mut self, last: &[Bytes]) {
        // Who does not read cannot be told.
        let _ = self.try_write(last);
        self.finish();
    }

    /// Nothing more will be written: ends the pipe once what was taken is out.
    fn finish(&mut self);
}
