//! One try to connect: look-up, socket, TLS, hello. When to try lives in `supervisor`.

use std::{io, time::Duration};

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::{Address, Command, ConnectError, Decoder, Frame, Options, ServerError, Target, Value};

/// Any byte stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that has said hello.
pub(crate) struct Ready {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) decoder: Decoder,
    /// What came behind the hello.
    pub(crate) input: BytesMut,
}

/// Connects and says hello. Answers also what the server said of itself.
pub(crate) async fn connect(target: &Target, options: &Options) -> Result<(Ready, Value), ConnectError> {
    let connecting = async {
        let stream = dial(target, options).await?;
        hello(stream, target, options).await
    };
    timeout(options.connect_timeout, connecting).await.unwrap_or(Err(ConnectError::TimedOut(options.connect_timeout)))
}

async fn dial(target: &Target, options: &Options) -> Result<Box<dyn Stream>, ConnectError> {
    let stream = match &target.address {
        Address::Tcp { host, port } => tcp(host, *port, options).await?,
        Address::Unix(path) => return unix(path).await,
    };
    #[cfg(feature = "tls")]
    if let (Some(tls), Address::Tcp { host, port }) = (&target.tls, &target.address) {
        let mut securing = std::pin::pin!(tls.connect(host, stream));
        let patience = options.connect_timeout / 3;
        let secured = match timeout(patience, &mut securing).await {
            Ok(secured) => secured,
            // A server that speaks no TLS may wait for the end of a line that never comes: who is silent is asked in plain words.
            Err(_) if timeout(patience, speaks_plainly(host, *port, options)).await.unwrap_or(false) => return Err(not_tls()),
            Err(_) => securing.await,
        };
        return Ok(Box::new(secured?));
    }
    Ok(Box::new(stream))
}

/// Whether a server answers `PING` without TLS. Nothing secret is told it.
#[cfg(feature = "tls")]
async fn speaks_plainly(host: &str, port: u16, options: &Options) -> bool {
    let Ok(mut stream) = tcp(host, port, options).await else { return false };
    let mut first = [0];
    let asked = stream.write_all(b"PING\r\n").await.is_ok() && stream.read_exact(&mut first).await.is_ok();
    asked && matches!(first[0], b'+' | b'-')
}

#[cfg(feature = "tls")]
pub(crate) fn not_tls() -> ConnectError {
    ConnectError::Tls("the server answered something else than TLS: name its TLS port, or say redis://".to_owned())
}

/// Tries the addresses of a name one after the other.
async fn tcp(host: &str, port: u16, options: &Options) -> Result<TcpStream, ConnectError> {
    let addresses = lookup_host((host, port)).await.map_err(|error| ConnectError::LookUp(error.to_string()))?;
    let mut last = ConnectError::LookUp("the name has no address".to_owned());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                configure(&stream, options).map_err(|error| ConnectError::Unreachable(error.to_string()))?;
                return Ok(stream);
            }
            Err(error) => last = ConnectError::Unreachable(error.to_string()),
        }
    }
    Err(last)
}

/// The kernel gives a silent peer up no later than the link does; keepalive probes also pass where nothing is written.
fn configure(stream: &TcpStream, options: &Options) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
    let keepalive = keepalive.with_interval(KEEPALIVE_INTERVAL).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(options.ping_interval + options.ping_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = options;
    Ok(())
}

/// Silence after which the kernel probes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// Time between its probes.
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);

#[cfg(unix)]
async fn unix(path: &std::path::Path) -> Result<Box<dyn Stream>, ConnectError> {
    let stream = tokio::net::UnixStream::connect(path).await.map_err(|error| ConnectError::Unreachable(error.to_string()))?;
    Ok(Box::new(stream))
}

#[cfg(not(unix))]
async fn unix(_: &std::path::Path) -> Result<Box<dyn Stream>, ConnectError> {
    Err(ConnectError::Unreachable("this system has no Unix sockets".to_owned()))
}

/// Says everything at once and reads the answers in order.
async fn hello(mut stream: Box<dyn Stream>, target: &Target, options: &Options) -> Result<(Ready, Value), ConnectError> {
    let commands = greeting(target);
    let mut output = Vec::new();
    for command in &commands {
        command.write_to(&mut output);
    }
    stream.write_all(&output).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut answers = Answers { decoder: Decoder::new(options.bounds), input: BytesMut::with_capacity(4096), stream };
    let server = accept(&commands[0], answers.next().await?)?;
    for command in &commands[1..] {
        accept(command, answers.next().await?)?;
    }
    let Answers { stream, decoder, input } = answers;
    Ok((Ready { stream, decoder, input }, server))
}

/// `PING` and `ECHO` show before the first call whether the server serves and whether the user may do what the link needs.
fn greeting(target: &Target) -> Vec<Command> {
    let mut hello = Command::new("HELLO").arg(3);
    if let Some(password) = &target.password {
        hello = hello.arg("AUTH").arg(target.user.as_deref().unwrap_or("default")).arg(password);
    }
    let mut commands = vec![hello.arg("SETNAME").arg(&target.client_name)];
    if target.database != 0 {
        commands.push(Command::new("SELECT").arg(target.database));
    }
    commands.extend([Command::new("PING"), Command::new("ECHO").arg("hello")]);
    commands
}

struct Answers {
    decoder: Decoder,
    input: BytesMut,
    stream: Box<dyn Stream>,
}

impl Answers {
    async fn next(&mut self) -> Result<Value, ConnectError> {
        loop {
            match self.decoder.next(&mut self.input) {
                Ok(Some(Frame::Reply(value))) => return Ok(value),
                Ok(Some(Frame::Push(_))) => {}
                Ok(None) => {
                    if self.stream.read_buf(&mut self.input).await.map_err(broken)? == 0 {
                        return Err(ConnectError::Broken("the server closed it".to_owned()));
                    }
                }
                Err(error) => return Err(ConnectError::Protocol(error.to_string())),
            }
        }
    }
}

/// What the answer to a command of the greeting means.
fn accept(command: &Command, answer: Value) -> Result<Value, ConnectError> {
    let Value::Error(error) = answer else {
        let expected = command.name() != "HELLO" || answer.field("proto").and_then(Value::integer) == Some(3);
        return if expected { Ok(answer) } else { Err(ConnectError::Protocol("the answer to HELLO does not say RESP3".to_owned())) };
    };
    match (command.name(), error.code()) {
        (_, "LOADING") => Err(ConnectError::Loading),
        (_, "NOAUTH") => Err(ConnectError::NeedsPassword),
        (_, "WRONGPASS") => Err(ConnectError::WrongPassword),
        (_, "NOPERM") => Err(ConnectError::NeedsRights(error)),
        ("HELLO", "NOPROTO") => Err(ConnectError::TooOld(error)),
        ("HELLO", _) if is_unknown_command(&error) => Err(ConnectError::TooOld(error)),
        ("SELECT", _) => Err(ConnectError::Database(error)),
        // A replica without its primary refuses, and serves what needs no data; sentinels know no ECHO.
        ("PING", "MASTERDOWN") => Ok(Value::Null),
        ("ECHO", _) if is_unknown_command(&error) => Ok(Value::Null),
        _ => Err(ConnectError::Refused(error)),
    }
}

fn is_unknown_command(error: &ServerError) -> bool {
    error.line().to_ascii_lowercase().contains("unknown command")
}

fn broken(error: io::Error) -> ConnectError {
    ConnectError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &'static str, line: &'static str) -> ConnectError {
        accept(&Command::new(name), Value::Error(ServerError::new(line))).expect_err("an error")
    }

    #[test]
    fn errors_to_the_hello_become_what_the_operator_can_act_on() {
        let noauth = "NOAUTH HELLO must be called with the client already authenticated";
        assert_eq!(refusal("HELLO", noauth), ConnectError::NeedsPassword);
        assert_eq!(refusal("HELLO", "WRONGPASS invalid username-password pair or user is disabled."), ConnectError::WrongPassword);
        assert!(matches!(refusal("HELLO", "ERR unknown command `HELLO`, with args beginning with: `3`, "), ConnectError::TooOld(_)));
        assert!(matches!(refusal("HELLO", "NOPROTO unsupported protocol version"), ConnectError::TooOld(_)));
        assert!(matches!(refusal("HELLO", "ERR max number of clients reached"), ConnectError::Refused(_)));
        assert!(matches!(refusal("SELECT", "ERR DB index is out of range"), ConnectError::Database(_)));
        assert_eq!(refusal("PING", "LOADING Redis is loading the dataset in memory"), ConnectError::Loading);
        let rights = refusal("ECHO", "NOPERM this user has no permissions to run the 'echo' command");
        assert!(rights.to_string().contains("+echo"));
    }

    #[test]
    fn a_password_is_in_the_greeting_and_in_no_debug_output() {
        let target = Target::tcp("localhost", 1).user("kim", "secret");
        assert!(String::from_utf8_lossy(&greeting(&target)[0].to_vec()).contains("AUTH\r\n$3\r\nkim\r\n$6\r\nsecret"));
        assert!(!format!("{target:?} {:?}", greeting(&target)).contains("secret"));
    }
}
