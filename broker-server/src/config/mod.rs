//! The configuration: plain structs, one file per section; read from defaults, file, environment and flags, with every mistake at once.
//!
//! Each section lists its keys once (`visit`); reading, `config default`, `config show` and "did you mean" walk the same list. `serde` is
//! not used: it stops at the first mistake, and this reports all of them with their places.

mod addresses;
mod api;
mod backplane;
mod cautions;
mod client;
mod field;
mod hooks;
mod init;
mod mistake;
mod namespaces;
mod print;
mod quantity;
mod rates;
mod raw;
mod redis_url;
mod routes;
mod secret;
mod server;
mod source;
mod suggest;
mod tls;
mod token;
mod visit;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path as FilePath, PathBuf},
};

use broker_auth::HookedNamespaces;
use broker_core::{Namespace, Namespaces};

pub(crate) use self::quantity::parse_duration;
pub use self::{
    addresses::Addresses,
    api::Api,
    backplane::{Backplane, BackplaneKind},
    client::Client,
    hooks::{HookConfig, Hooks},
    init::starter,
    mistake::{File, Mistake, Origin, Report},
    namespaces::Asked,
    quantity::Rate,
    redis_url::RedisUrl,
    routes::{Format, PathTemplate, Route, TopicTemplate},
    secret::Secret,
    server::{LogFormat, LogLevel, Server},
    tls::TlsFiles,
    token::{JwksAddress, TokenKeys},
};
use self::{
    print::{Explainer, Shower, Values},
    raw::Raw,
    source::{Path, Source},
    visit::{Reader, Visitor},
};

/// The file that is read when none is named.
pub const FILE_NAME: &str = "broker.toml";

/// All settings of a broker.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// `[client]`: what holds for every client's connection.
    pub client: Client,
    /// `[api]`: the server API over HTTP.
    pub api: Api,
    /// `[hooks]`: where the application is asked over HTTP.
    pub hooks: Hooks,
    /// Which namespaces ask the application.
    pub asked: Asked,
    /// `[backplane]`: what carries publications between nodes.
    pub backplane: Backplane,
    /// `[default]`: topics without a namespace.
    pub default: Namespace,
    /// `[namespaces.NAME]`: topics of one namespace.
    pub namespaces: BTreeMap<String, Namespace>,
    /// `[[routes]]`: paths of an application and their topics.
    pub routes: Vec<Route>,
    /// `[server]`: listeners, shutdown, logs.
    pub server: Server,
    /// Whether anyone may subscribe and publish.
    pub is_dev: bool,
}

/// Where to look for settings.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file that was named; `None`: [`FILE_NAME`] if there is one.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are no settings are skipped.
    pub variables: Vec<(String, String)>,
    /// Flags: their name, the key they set, and the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// How often dev mode was asked for; twice lets it listen beyond loopback.
    pub dev: u8,
}

/// What was read, and what is wrong with it.
#[derive(Debug)]
pub struct Loaded {
    /// The merged settings. Where the report holds mistakes, the wrong values are left at their defaults.
    pub config: Config,
    /// Mistakes and warnings.
    pub report: Report,
    origins: Vec<(Path, Origin)>,
}

impl Config {
    /// Reads and checks everything: defaults, then the file, then the environment, then flags.
    pub fn load(inputs: &Inputs) -> Loaded {
        let mut report = Report::default();
        let mut source = Source::default();
        match read_file(inputs.file.as_deref()) {
            Ok(Some(file)) => {
                source.read_file(&file.text, &mut report.mistakes);
                report.file = Some(file);
            }
            Ok(None) => {}
            Err(mistake) => report.mistakes.push(mistake),
        }
        source.read_environment(&inputs.variables);
        for (flag, key, value) in &inputs.flags {
            let path = key.split('.').map(str::to_owned).collect();
            source.set(path, Raw::plain(value), &Origin::Flag(flag), Origin::Flag(flag));
        }
        let mut config = Self { is_dev: inputs.dev > 0, ..Self::default() };
        let mut reader = Reader::new(source, &mut report.mistakes);
        config.visit(&mut reader);
        let (mut origins, known) = reader.finish();
        if !origins.iter().any(|(path, origin)| path.iter().eq(["client", "pong_timeout"]) && *origin != Origin::Default) {
            config.client.fit_pong_timeout();
        }
        config.imply_redis(&mut origins);
        if config.is_dev {
            config.open_for_development(&mut origins);
        }
        let nearly = source::nearly_settings(&inputs.variables, &known);
        report.warnings.extend(nearly.into_iter().map(|(name, meant)| {
            Mistake::new(Origin::Variable(name.to_owned()), format!("{name} is not read")).help(format!("did you mean {meant}?"))
        }));
        cautions::check(&config, &origins, inputs.dev, &mut report);
        report.sort();
        Loaded { config, report, origins }
    }

    /// Every key with its meaning and default, as a file that could be used.
    pub fn explain() -> String {
        let mut example = Self::default();
        example.namespaces.insert("orders".to_owned(), Namespace::default());
        example.routes.push(Route::default());
        example.client.token.jwks.insert("main".to_owned(), JwksAddress::default());
        let mut explainer = Explainer::default();
        example.visit(&mut explainer);
        explainer.finish()
    }

    /// The options of all topics, as the engine takes them.
    pub fn core_namespaces(&self) -> Namespaces {
        let mut namespaces = Namespaces::new();
        namespaces.set_default(self.default.clone());
        for (name, namespace) in &self.namespaces {
            namespaces.set(name.as_str(), namespace.clone());
        }
        if self.is_dev {
            namespaces.set_fallback(Namespace::open());
        }
        namespaces
    }

    /// Which namespaces ask the application, as the hooks take it.
    pub fn hooked_namespaces(&self) -> HookedNamespaces {
        let mut namespaces = HookedNamespaces::default();
        namespaces.set_default(self.asked.default.decides);
        if self.asked.default.snapshot {
            namespaces.set_snapshot("");
        }
        for (name, hooks) in &self.asked.named {
            namespaces.set(name.as_str(), hooks.decides);
            if hooks.snapshot {
                namespaces.set_snapshot(name.as_str());
            }
        }
        namespaces
    }

    /// The routes, as the facade takes them: it matches in order, so a path without captures comes before one that has them.
    pub fn broker_routes(&self) -> Vec<broker::Route> {
        let mut routes: Vec<(&PathTemplate, &Route)> = self.routes.iter().filter_map(|route| Some((route.path.as_ref()?, route))).collect();
        routes.sort_by_key(|(path, _)| path.specificity());
        let convert = |(path, route): (&PathTemplate, &Route)| {
            let made = broker::Route::new(path.as_str()).format(match route.format {
                Format::Raw => broker::Format::Raw,
                Format::Envelope => broker::Format::Envelope,
            });
            match &route.topic {
                Some(topic) => made.topic(topic.as_str()),
                None => made,
            }
        };
        routes.into_iter().map(convert).collect()
    }

    fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.client.visit(visitor);
        self.api.visit(visitor, if self.is_dev { 1 } else { Api::KEY_MIN });
        self.hooks.visit(visitor);
        self.backplane.visit(visitor);
        namespaces::visit_default(&mut self.default, &mut self.asked, visitor);
        namespaces::visit_named(&mut self.namespaces, &mut self.asked, &Namespace::default(), visitor);
        routes::visit(&mut self.routes, visitor);
        self.server.visit(visitor);
    }

    /// Where somebody says where Redis is and nothing else, it is meant.
    fn imply_redis(&mut self, origins: &mut Vec<(Path, Origin)>) {
        let origin_of = |key: &str| origins.iter().find(|(path, _)| path.iter().eq(["backplane", key])).map(|(_, origin)| origin.clone());
        if let (Some(url), None) = (origin_of("url"), origin_of("kind")) {
            self.backplane.kind = BackplaneKind::Redis;
            origins.push((vec!["backplane".to_owned(), "kind".to_owned()], url));
        }
    }

    /// Opens what dev mode opens, whatever the file says: a page that tries the broker out must not meet a production rule.
    fn open_for_development(&mut self, origins: &mut Vec<(Path, Origin)>) {
        let before = self.values();
        self.client.anonymous = true;
        self.default = Namespace::open();
        self.api.key.get_or_insert_with(|| Secret::new("dev"));
        let changed = self.values().into_iter().filter(|(path, value)| before.get(path) != Some(value)).map(|(path, _)| path);
        for path in changed {
            origins.retain(|(other, _)| *other != path);
            origins.push((path, Origin::DevMode));
        }
    }

    /// Every setting with its value as text, secrets too: not for showing.
    pub(crate) fn every_value(mut self) -> BTreeMap<Vec<String>, Option<String>> {
        self.values()
    }

    fn values(&mut self) -> BTreeMap<Path, Option<String>> {
        let mut values = Values::default();
        self.visit(&mut values);
        values.values
    }
}

impl Loaded {
    /// The merged settings as TOML, each with its origin; secrets are masked.
    pub fn show(&self) -> String {
        let mut shower = Shower::new(self.report.file.as_ref(), &self.origins);
        self.config.clone().visit(&mut shower);
        shower.finish()
    }

    /// Where the value of a key comes from.
    fn origin(&self, key: &str) -> Origin {
        let found = self.origins.iter().find(|(path, _)| path.join(".") == key);
        found.map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&FilePath> {
        self.report.file.as_ref().map(|file| file.path.as_path())
    }
}

fn read_file(named: Option<&FilePath>) -> Result<Option<File>, Mistake> {
    let path = named.unwrap_or(FilePath::new(FILE_NAME));
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(File { path: path.to_owned(), text })),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let help = match error.kind() {
                io::ErrorKind::NotFound => "`broker init` writes a file to start from".to_owned(),
                io::ErrorKind::InvalidData => "a configuration file is UTF-8 text".to_owned(),
                _ => "the broker must be able to read it".to_owned(),
            };
            Err(Mistake::new(Origin::Default, format!("cannot read {}: {error}", path.display())).help(help))
        }
    }
}
