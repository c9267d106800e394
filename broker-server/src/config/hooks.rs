//! `[hooks]`: where the application is asked over HTTP, and what its answers may cost. Calls are not made here.

use std::{collections::BTreeMap, time::Duration};

use broker_auth::{Hook, HookHeader, HookOptions, HookUrl, HooksOptions, InvalidHeader, InvalidHookUrl, PassedHeader};

use super::{
    field::{Complaint, count, duration, headers, size, text, texts},
    visit::Visitor,
};

/// Where the application is asked over HTTP.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Hooks {
    /// Headers of every call. Default: none.
    pub headers: Vec<HookHeader>,
    /// Headers of the client's request that go with `connect`. Default: none.
    pub pass_headers: Vec<String>,
    /// Largest answer, in bytes. Default: 64 KiB.
    pub answer_max: usize,
    /// Failures in a row after which a hook is left alone for a while. Default: 10.
    pub failures_max: usize,
    /// `hooks.snapshot.stale`: how old a snapshot may be that stands in when the application fails; zero: none does. Default: 0.
    pub snapshot_stale: Duration,
    /// `[hooks.NAME]`: each hook.
    pub each: BTreeMap<Hook, HookConfig>,
}

/// Where one hook is called.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HookConfig {
    /// The address; `None`: the broker answers by itself.
    pub url: Option<HookUrl>,
    /// Time for a call. Default: 1 s.
    pub timeout: Duration,
    /// Most calls at a time. Default: 64.
    pub concurrency: usize,
    /// Most calls that wait. Default: 1,024.
    pub queue: usize,
}

impl Default for HookConfig {
    fn default() -> Self {
        Self { url: None, timeout: HookOptions::TIMEOUT, concurrency: HookOptions::CONCURRENCY, queue: HookOptions::QUEUE_MAX_LEN }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        let HooksOptions { answer_max_bytes, failures_max, .. } = HooksOptions::default();
        Self {
            headers: Vec::new(),
            pass_headers: Vec::new(),
            answer_max: answer_max_bytes,
            failures_max: failures_max as usize,
            snapshot_stale: Duration::ZERO,
            each: Hook::ALL.into_iter().map(|hook| (hook, HookConfig::default())).collect(),
        }
    }
}

impl Hooks {
    /// Whether a hook has an address.
    pub fn has(&self, hook: Hook) -> bool {
        self.each.get(&hook).is_some_and(|hook| hook.url.is_some())
    }

    /// The hooks that have an address, with it.
    pub fn urls(&self) -> impl Iterator<Item = (Hook, &HookUrl)> {
        self.each.iter().filter_map(|(hook, config)| Some((*hook, config.url.as_ref()?)))
    }

    /// The same as the hooks take it; `None` where there is no hook.
    pub fn options(&self) -> Option<HooksOptions> {
        self.urls().next()?;
        let mut options =
            HooksOptions::default().answer_max_bytes(self.answer_max).failures_max(u32::try_from(self.failures_max).unwrap_or(u32::MAX));
        for header in &self.headers {
            options = options.header(header.clone());
        }
        for name in &self.pass_headers {
            options = options.pass_header(name.parse().expect("names were checked when they were read"));
        }
        for (hook, url) in self.urls() {
            let config = &self.each[&hook];
            let of_hook = HookOptions::new(url.clone()).timeout(config.timeout).concurrency(config.concurrency).queue_max_len(config.queue);
            options = options.hook(hook, of_hook);
        }
        Some(options)
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        let about = "Where the application is asked over HTTP: a POST of JSON, as docs/protocols/hooks.md describes it. Redirects are not followed.";
        visitor.section("hooks", about, &mut |keys| self.keys(keys));
    }

    fn keys(&mut self, keys: &mut dyn Visitor) {
        keys.key(
            "headers",
            "Headers of every call, for a secret that both sides know.",
            &mut headers(&mut self.headers, "a list of headers such as \"X-Hook-Key: secret\"", |text| text.parse().map_err(bad_header)),
        );
        keys.key(
            "pass_headers",
            "Headers of the client's request that go with `connect`.",
            &mut texts(&mut self.pass_headers, "a list of names such as \"cookie\"", |text| {
                text.parse::<PassedHeader>().map(drop).map_err(bad_header)
            }),
        );
        keys.key("answer_max", "Largest answer of the application.", &mut size(&mut self.answer_max, 1 << 10..=16 << 20));
        keys.key(
            "failures_max",
            "Failures in a row after which a hook is not called for a while: 1s at first, 30s at most.",
            &mut count(&mut self.failures_max, 1..=100_000),
        );
        for hook in Hook::ALL {
            let config = self.each.entry(hook).or_default();
            let stale = &mut self.snapshot_stale;
            keys.section(hook.word(), about(hook), &mut |keys| {
                config.keys(hook, keys);
                if hook == Hook::Snapshot {
                    let about = "How old a snapshot may be that stands in, with all that was published since, when the application fails; \"0s\": \
                                 none does, and subscribers are told to try again.";
                    keys.key("stale", about, &mut duration(stale, Duration::ZERO..=Duration::from_secs(3600)));
                }
            });
        }
    }
}

impl HookConfig {
    fn keys(&mut self, hook: Hook, keys: &mut dyn Visitor) {
        keys.key(
            "url",
            "The address. Without one, the broker answers by itself.",
            &mut text(&mut self.url, "an address such as \"http://127.0.0.1:3000/broker\"", "http://127.0.0.1:3000/broker", parse_url),
        );
        keys.key(
            "timeout",
            "Time for a call, waiting for its turn included.",
            &mut duration(&mut self.timeout, Duration::from_millis(10)..=Duration::from_secs(60)),
        );
        keys.key("concurrency", "Most calls at a time.", &mut count(&mut self.concurrency, 1..=10_000));
        let queue = if hook == Hook::Disconnect {
            "Most ends that the application has not been told yet; of more it is not told."
        } else {
            "Most calls that wait for their turn; a further one is refused."
        };
        keys.key("queue", queue, &mut count(&mut self.queue, 0..=1_000_000));
    }
}

fn about(hook: Hook) -> &'static str {
    match hook {
        Hook::Connect => "Who is this? Asked about clients without a token.",
        Hook::Refresh => "How long do these credentials hold on? Asked before the end of what connect said.",
        Hook::Subscribe => "May this client subscribe? Asked in namespaces whose `hooks` name it.",
        Hook::Publish => "May this client publish, and what? Asked in namespaces whose `hooks` name it.",
        Hook::Snapshot => "What is the current state of this topic? Asked once for all who subscribe, in namespaces whose `hooks` name it.",
        Hook::Rpc => "Answers calls of clients.",
        Hook::Message => "What is to be done about a message of the application's own?",
        Hook::Disconnect => "Is told that a session has ended.",
        _ => "A hook.",
    }
}

fn parse_url(text: &str) -> Result<HookUrl, Complaint> {
    text.parse().map_err(|error: InvalidHookUrl| {
        let help = match error {
            InvalidHookUrl::NoScheme => Some(format!("write \"http://{}\" or \"https://...\"", text.trim_start_matches('/'))),
            InvalidHookUrl::Scheme => Some("hooks are called over HTTP: write \"http://...\" or \"https://...\"".to_owned()),
            InvalidHookUrl::Credentials => Some("put the secret into hooks.headers: \"Authorization: ...\"".to_owned()),
            _ => Some("write it like \"http://127.0.0.1:3000/broker/connect\"".to_owned()),
        };
        (error.to_string(), help)
    })
}

fn bad_header(error: InvalidHeader) -> Complaint {
    let help = match error {
        InvalidHeader::NoColon => Some("write it like \"X-Hook-Key: secret\"".to_owned()),
        InvalidHeader::Reserved => Some("remove it".to_owned()),
        _ => None,
    };
    (error.to_string(), help)
}
