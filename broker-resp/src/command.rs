//! Commands and how they are written. What comes back lives in `value`.

use std::fmt;

use bytes::Bytes;

/// A command with its arguments, encoded. It may be sent any number of times, also after it failed.
///
/// ```
/// use broker_resp::Command;
/// let command = Command::new("PUBLISH").arg("news").arg(b"hello").arg(7);
/// assert_eq!(command.to_vec(), b"*4\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$5\r\nhello\r\n$1\r\n7\r\n");
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Command {
    /// Name and arguments as bulk strings.
    encoded: Vec<u8>,
    /// How many they are; what the line in front says.
    parts: usize,
    name: &'static str,
}

impl Command {
    /// A command without arguments. Two words are two parts: `Command::new("SCRIPT").arg("LOAD")`.
    pub fn new(name: &'static str) -> Self {
        Self { encoded: Vec::with_capacity(128), parts: 0, name }.arg(name)
    }

    /// Adds an argument: text, bytes or a whole number.
    pub fn arg(mut self, argument: impl Argument) -> Self {
        self.push(argument);
        self
    }

    /// Adds each as an argument.
    pub fn args<A: Argument>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.push(argument);
        }
        self
    }

    /// Adds an argument in place.
    pub fn push(&mut self, argument: impl Argument) {
        argument.with_bytes(&mut |bytes| bulk(&mut self.encoded, bytes));
        self.parts += 1;
    }

    /// The first word.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many bytes go over the wire at most: the line in front is counted with its longest.
    pub fn len_bytes(&self) -> usize {
        self.encoded.len() + HEAD_MAX
    }

    /// Appends what goes over the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len_bytes());
        line(out, b'*', self.parts);
        out.extend_from_slice(&self.encoded);
    }

    /// What goes over the wire.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }
}

/// Arguments may be secrets, so only the name shows.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} with {} arguments)", self.name, self.parts - 1)
    }
}

/// What may be an argument of a [`Command`]: text, bytes, whole numbers.
pub trait Argument {
    /// Hands over the bytes.
    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]));
}

/// A sign, 20 digits, CR and LF.
const HEAD_MAX: usize = 23;

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + HEAD_MAX + 2);
    line(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, sign: u8, number: usize) {
    out.push(sign);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

macro_rules! bytes_as_arguments {
    ($($kind:ty),*) => {$(
        impl Argument for $kind {
            fn with_bytes(&self, take: &mut dyn FnMut(&[u8])) {
                take(self.as_ref());
            }
        }
    )*};
}

macro_rules! numbers_as_arguments {
    ($($kind:ty),*) => {$(
        impl Argument for $kind {
            fn with_bytes(&self, take: &mut dyn FnMut(&[u8])) {
                take(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}

bytes_as_arguments!(str, String, [u8], Vec<u8>, Bytes);
numbers_as_arguments!(u8, u16, u32, u64, usize, i32, i64);

impl<const N: usize> Argument for [u8; N] {
    fn with_bytes(&self, take: &mut dyn FnMut(&[u8])) {
        take(self);
    }
}

impl<A: Argument + ?Sized> Argument for &A {
    fn with_bytes(&self, take: &mut dyn FnMut(&[u8])) {
        (**self).with_bytes(take);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_bulk_strings_of_any_bytes() {
        let command = Command::new("SET").arg("key").arg(Bytes::from_static(b"\r\n\0")).arg(-12_i64).args(["PX", "5"]);
        assert_eq!(command.to_vec(), b"*6\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\n\r\n\0\r\n$3\r\n-12\r\n$2\r\nPX\r\n$1\r\n5\r\n");
        assert!(command.to_vec().len() <= command.len_bytes());
    }

    #[test]
    fn debug_shows_no_argument() {
        assert_eq!(format!("{:?}", Command::new("AUTH").arg("secret")), "Command(AUTH with 1 arguments)");
    }
}
