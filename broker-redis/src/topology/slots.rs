//! The slots of a cluster: which one a name is in, and what servers say of who has it. Who asks them lives in `cluster`.

use broker_resp::{Address, ServerError, Value};

/// So many slots has each cluster.
pub(crate) const SLOTS: usize = 16_384;

/// The slot of a key or channel: of what stands between its first braces, if anything does.
pub(crate) fn slot_of(name: &[u8]) -> u16 {
    crc16(hash_tag(name).unwrap_or(name)) % SLOTS as u16
}

fn hash_tag(name: &[u8]) -> Option<&[u8]> {
    let open = name.iter().position(|&byte| byte == b'{')?;
    let rest = &name[open + 1..];
    let close = rest.iter().position(|&byte| byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

/// CRC-16/XMODEM. spec: Redis cluster specification, appendix A
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| crc << 8 ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Slots that one server has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Range {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) owner: Address,
}

/// Reads the answer to `CLUSTER SLOTS`; `None`: it is none. `asked`: who answered; it may leave its own name out.
pub(crate) fn ranges(answer: &Value, asked: &Address) -> Option<Vec<Range>> {
    answer.values()?.iter().map(|range| range_of(range, asked)).collect()
}

fn range_of(range: &Value, asked: &Address) -> Option<Range> {
    let [first, last, owner, ..] = range.values()? else { return None };
    let [host, port, ..] = owner.values()? else { return None };
    let slot = |value: &Value| u16::try_from(value.integer()?).ok().filter(|&slot| usize::from(slot) < SLOTS);
    let port = u16::try_from(port.integer()?).ok()?;
    Some(Range { first: slot(first)?, last: slot(last)?, owner: at(host.text().unwrap_or_default(), port, asked) })
}

/// Where a server sends the caller of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Redirect {
    /// The slot is another server's.
    Moved(u16, Address),
    /// The slot is on its way to another server, which is to be asked this once.
    Ask(Address),
}

impl Redirect {
    /// Reads `MOVED slot host:port` and `ASK slot host:port`; `None`: it is neither. `asked`: who answered.
    pub(crate) fn of(error: &ServerError, asked: &Address) -> Option<Self> {
        let (slot, place) = error.message().split_once(' ')?;
        let (host, port) = place.trim().rsplit_once(':')?;
        let address = at(host, port.parse().ok()?, asked);
        match error.code() {
            "MOVED" => Some(Self::Moved(slot.parse().ok().filter(|&slot| usize::from(slot) < SLOTS)?, address)),
            "ASK" => Some(Self::Ask(address)),
            _ => None,
        }
    }
}

/// A server that does not know its own name is where it was asked.
fn at(host: &str, port: u16, asked: &Address) -> Address {
    let host = match asked {
        Address::Tcp { host: own, .. } if host.is_empty() || host == "?" => own,
        _ => host,
    };
    Address::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    /// Answers of `CLUSTER KEYSLOT`.
    #[test]
    fn slots_are_those_of_redis() {
        let known =
            [("123456789", 12739), ("foo", 12182), ("{user1000}.following", 3443), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015), ("", 0)];
        for (name, slot) in known {
            assert_eq!(slot_of(name.as_bytes()), slot, "{name}");
        }
        assert_eq!(slot_of(b"b:{foo}:m"), 12182);
    }

    #[test]
    fn redirections_are_read() {
        let asked = tcp("10.0.0.1", 7000);
        let read = |line: &'static str| Redirect::of(&ServerError::new(line), &asked);
        assert_eq!(read("MOVED 3999 127.0.0.1:6381"), Some(Redirect::Moved(3999, tcp("127.0.0.1", 6381))));
        assert_eq!(read("MOVED 3999 :6381"), Some(Redirect::Moved(3999, tcp("10.0.0.1", 6381))));
        assert_eq!(read("ASK 1 ::1:6381"), Some(Redirect::Ask(tcp("::1", 6381))));
        assert_eq!(read("MOVED 16384 a:1"), None);
        assert_eq!(read("MOVED 1 a"), None);
        assert_eq!(read("CLUSTERDOWN Hash slot not served"), None);
    }

    #[test]
    fn ranges_name_the_first_server_of_each() {
        let text = |text: &'static str| Value::Bulk(text.into());
        let server = |host: Value, port| Value::Array(vec![host, Value::Integer(port), text("id"), Value::Array(vec![])]);
        let range = |first, last, host| {
            Value::Array(vec![Value::Integer(first), Value::Integer(last), server(host, 7001), server(text("b"), 7002)])
        };
        let asked = tcp("10.0.0.1", 7000);
        let answer = Value::Array(vec![range(0, 5460, text("a")), range(5461, 16383, Value::Null)]);
        let expected =
            [Range { first: 0, last: 5460, owner: tcp("a", 7001) }, Range { first: 5461, last: 16383, owner: tcp("10.0.0.1", 7001) }];
        assert_eq!(ranges(&answer, &asked), Some(expected.to_vec()));
        assert_eq!(ranges(&Value::Array(vec![range(0, 16384, text("a"))]), &asked), None);
        assert_eq!(ranges(&Value::Integer(1), &asked), None);
    }
}
