//! Where a link goes and as whom. How it gets there lives in `connect`.

use std::{fmt, path::PathBuf};

/// A server, and as whom to speak to it. Debug output shows no password.
#[derive(Clone)]
#[non_exhaustive]
pub struct Target {
    /// Where the server listens.
    pub address: Address,
    /// The user of the access list; `None`: the default user.
    pub user: Option<String>,
    /// The password of the user; `None`: none is sent.
    pub password: Option<String>,
    /// The database that is selected. A cluster has only 0. Default: 0.
    pub database: u32,
    /// What `CLIENT LIST` shows for the connection: printable, without spaces. Default: `broker`.
    pub client_name: String,
    /// TLS; `None`: none.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::Tls>,
}

/// Where a server listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Address {
    /// A name or an IP address, and a port. A name is looked up for each connection.
    Tcp {
        /// Name or IP address; an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// A server on a TCP port, without password, TLS and database.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::at(Address::Tcp { host: host.into(), port })
    }

    /// A server on a Unix socket, without password and database.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::at(Address::Unix(path.into()))
    }

    /// A server at an address, without password, TLS and database.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            user: None,
            password: None,
            database: 0,
            client_name: "broker".to_owned(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The same at another address, as a cluster or sentinels name it.
    pub fn moved_to(&self, address: Address) -> Self {
        Self { address, ..self.clone() }
    }

    /// Sets the user and the password.
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self.password(password)
    }

    /// Sets the password.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the database.
    pub fn database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// Sets what `CLIENT LIST` shows.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// Speaks TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.tls = Some(tls);
        self
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Target");
        shown.field("address", &self.address).field("user", &self.user).field("password", &self.password.as_ref().map(|_| "***"));
        shown.field("database", &self.database).field("client_name", &self.client_name);
        #[cfg(feature = "tls")]
        shown.field("tls", &self.tls.is_some());
        shown.finish()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
