//! How hooks are configured: their addresses, headers and bounds, each parsed into a type that cannot be wrong. Calls are not made here.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, Uri};

/// A question that the application is asked over HTTP.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Hook {
    /// Who is this?
    Connect,
    /// How long do these credentials hold on?
    Refresh,
    /// May this session subscribe?
    Subscribe,
    /// May this session publish, and what?
    Publish,
    /// What is the current state of this topic?
    Snapshot,
    /// A call of a client.
    Rpc,
    /// A message of the application's own.
    Message,
    /// A session has ended.
    Disconnect,
}

impl Hook {
    /// Every hook, in the order of their declaration.
    pub const ALL: [Self; 8] =
        [Self::Connect, Self::Refresh, Self::Subscribe, Self::Publish, Self::Snapshot, Self::Rpc, Self::Message, Self::Disconnect];

    /// The word in configuration, metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Snapshot => "snapshot",
            Self::Rpc => "rpc",
            Self::Message => "message",
            Self::Disconnect => "disconnect",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Addresses, headers and bounds of all hooks.
///
/// ```
/// use broker_auth::{Hook, HookOptions, HooksOptions};
///
/// let options = HooksOptions::default()
///     .header("X-Hook-Key: an agreed secret".parse()?)
///     .pass_header("cookie".parse()?)
///     .hook(Hook::Connect, HookOptions::new("http://127.0.0.1:3000/broker/connect".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HooksOptions {
    /// The hooks that are called. What is not here has the broker's own answer.
    pub hooks: BTreeMap<Hook, HookOptions>,
    /// Headers of every call, for a secret that both sides know.
    pub headers: Vec<HookHeader>,
    /// Headers of the client's request that go with `connect`. Default: none.
    pub pass_headers: Vec<PassedHeader>,
    /// Largest answer, in bytes. Default: 64 KiB.
    pub answer_max_bytes: usize,
    /// Failures in a row after which no call goes to an endpoint for a while. Default: 10.
    pub failures_max: u32,
}

impl Default for HooksOptions {
    fn default() -> Self {
        Self { hooks: BTreeMap::new(), headers: Vec::new(), pass_headers: Vec::new(), answer_max_bytes: 64 << 10, failures_max: 10 }
    }
}

impl HooksOptions {
    /// Sets where and how a hook is called.
    pub fn hook(mut self, hook: Hook, options: HookOptions) -> Self {
        self.hooks.insert(hook, options);
        self
    }

    /// Adds a header to every call.
    pub fn header(mut self, header: HookHeader) -> Self {
        self.headers.push(header);
        self
    }

    /// Lets a header of the client's request go with `connect`.
    pub fn pass_header(mut self, header: PassedHeader) -> Self {
        self.pass_headers.push(header);
        self
    }

    /// Sets the largest answer, in bytes.
    pub fn answer_max_bytes(mut self, bytes: usize) -> Self {
        self.answer_max_bytes = bytes;
        self
    }

    /// Sets after how many failures in a row no call goes to an endpoint for a while; at least 1.
    pub fn failures_max(mut self, failures: u32) -> Self {
        self.failures_max = failures;
        self
    }
}

/// Where and how one hook is called.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HookOptions {
    /// Where.
    pub url: HookUrl,
    /// Time for a call, waiting for its turn included. Default: 1 s.
    pub timeout: Duration,
    /// Most calls at a time. Default: 64.
    pub concurrency: usize,
    /// Most calls that wait for their turn; a further one is refused. For [`Hook::Disconnect`]: most ends that are not told yet. Default: 1,024.
    pub queue_max_len: usize,
}

impl HookOptions {
    /// Time for a call unless another is set.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// Most calls at a time unless another number is set.
    pub const CONCURRENCY: usize = 64;
    /// Most calls that wait unless another number is set.
    pub const QUEUE_MAX_LEN: usize = 1024;

    /// Called here, with the defaults.
    pub fn new(url: HookUrl) -> Self {
        Self { url, timeout: Self::TIMEOUT, concurrency: Self::CONCURRENCY, queue_max_len: Self::QUEUE_MAX_LEN }
    }

    /// Sets the time for a call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many calls go out at a time; at least 1.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls;
        self
    }

    /// Sets how many calls may wait for their turn.
    pub fn queue_max_len(mut self, calls: usize) -> Self {
        self.queue_max_len = calls;
        self
    }
}

/// The address of a hook: `http` or `https`, a host, and no credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HookUrl(Uri);

impl HookUrl {
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(super) fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for HookUrl {
    type Err = InvalidHookUrl;

    fn from_str(text: &str) -> Result<Self, InvalidHookUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidHookUrl::NoUrl)?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(_) => return Err(InvalidHookUrl::Scheme),
            None => return Err(InvalidHookUrl::NoScheme),
        }
        let authority = uri.authority().ok_or(InvalidHookUrl::NoUrl)?;
        if authority.as_str().contains('@') {
            return Err(InvalidHookUrl::Credentials);
        }
        if authority.host().is_empty() || (authority.as_str() != authority.host() && authority.port_u16().is_none()) {
            return Err(InvalidHookUrl::NoUrl);
        }
        Ok(Self(uri))
    }
}

/// Why a text is not a [`HookUrl`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHookUrl {
    /// It is no URL, or has no host.
    #[error("this is no URL with a host")]
    NoUrl,
    /// It does not say how to get there.
    #[error("this has no scheme")]
    NoScheme,
    /// Hooks speak HTTP.
    #[error("this has a scheme other than http and https")]
    Scheme,
    /// Addresses are logged.
    #[error("this holds credentials, and addresses are logged")]
    Credentials,
}

/// A header of every call: `X-Hook-Key: secret`. `Debug` masks its value.
#[derive(Clone, Eq, PartialEq)]
pub struct HookHeader {
    pub(super) name: HeaderName,
    pub(super) value: HeaderValue,
}

impl HookHeader {
    /// Its name, in lower case.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl fmt::Debug for HookHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ********", self.name)
    }
}

impl FromStr for HookHeader {
    type Err = InvalidHeader;

    fn from_str(text: &str) -> Result<Self, InvalidHeader> {
        let (name, value) = text.split_once(':').ok_or(InvalidHeader::NoColon)?;
        let name = free_name(name.trim())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| InvalidHeader::Value)?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// The name of a client's header that goes with `connect`: `cookie`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PassedHeader(HeaderName);

impl PassedHeader {
    pub(super) fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl fmt::Display for PassedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for PassedHeader {
    type Err = InvalidHeader;

    fn from_str(text: &str) -> Result<Self, InvalidHeader> {
        free_name(text).map(Self)
    }
}

/// Why a text is not a [`HookHeader`] or [`PassedHeader`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// A header is a name, a colon and a value.
    #[error("this has no `:` between name and value")]
    NoColon,
    /// The name has characters that no header's name has.
    #[error("this is no name of a header")]
    Name,
    /// The value has characters that no header's value has.
    #[error("the value has characters that a header cannot hold")]
    Value,
    /// The header belongs to the connection between broker and application.
    #[error("this header is the broker's own")]
    Reserved,
}

/// A header's name that is not about the message or the connection itself.
fn free_name(name: &str) -> Result<HeaderName, InvalidHeader> {
    const RESERVED: [&str; 13] = [
        "accept",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| InvalidHeader::Name)?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-") {
        return Err(InvalidHeader::Reserved);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_with_a_host_and_without_credentials() {
        let check = |text: &str, expected: Result<(), InvalidHookUrl>| assert_eq!(text.parse::<HookUrl>().map(drop), expected, "{text}");
        check("http://127.0.0.1:3000/connect?x=1", Ok(()));
        check("https://app.example.com/hooks", Ok(()));
        check("http://[::1]:80/", Ok(()));
        check("http://[::1]/", Ok(()));
        check("app.example.com/hooks", Err(InvalidHookUrl::NoUrl));
        check("/hooks", Err(InvalidHookUrl::NoScheme));
        check("grpc://127.0.0.1:9000", Err(InvalidHookUrl::Scheme));
        check("http://key@host/", Err(InvalidHookUrl::Credentials));
        check("http://host:99999/", Err(InvalidHookUrl::NoUrl));
        check("http://", Err(InvalidHookUrl::NoUrl));
    }

    #[test]
    fn a_header_is_free_and_its_value_is_not_shown() {
        let header: HookHeader = "X-Key: s3cret".parse().unwrap();
        assert_eq!((header.name(), format!("{header:?}")), ("x-key", "x-key: ********".to_owned()));
        assert_eq!("X-Key".parse::<HookHeader>(), Err(InvalidHeader::NoColon));
        assert_eq!("Host: x".parse::<HookHeader>(), Err(InvalidHeader::Reserved));
        assert_eq!("X: a\nb".parse::<HookHeader>(), Err(InvalidHeader::Value));
        assert_eq!("Sec-WebSocket-Key".parse::<PassedHeader>(), Err(InvalidHeader::Reserved));
        assert_eq!("a b".parse::<PassedHeader>(), Err(InvalidHeader::Name));
    }
}
