//! Credentials of the connection and of subscriptions: when they are renewed, and what becomes of a token that was found.

use std::time::{Duration, Instant};

use super::{Effect, Machine, Phase, SubscriptionId, TokenFor, calls::What, subscriptions::Step};
use crate::{
    Refusal, TokenError, Unsubscribed, codes,
    wire::{self, Command, RefreshResult},
};

/// A token is renewed this long before its end, at most.
const REFRESH_AHEAD_MAX: Duration = Duration::from_secs(10);

/// Where the renewal of a token stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Refresh {
    #[default]
    Never,
    At(Instant),
    /// The application looks for a token.
    Fetching,
}

impl Refresh {
    /// When a token that ends is renewed: a tenth of its life before the end, at most [`REFRESH_AHEAD_MAX`].
    pub(super) fn before_end(expires: bool, ttl_seconds: u64, now: Instant) -> Self {
        if !expires {
            return Self::Never;
        }
        let ttl = Duration::from_secs(ttl_seconds);
        Self::At(now + ttl.saturating_sub((ttl / 10).min(REFRESH_AHEAD_MAX)))
    }
}

impl Machine {
    pub(super) fn fetches_tokens(&self) -> bool {
        self.config.tokens.as_ref().is_some_and(|tokens| tokens.fixed_token().is_none())
    }

    pub(super) fn connection_token(&mut self, token: Result<String, TokenError>, now: Instant) {
        match (&mut self.phase, token) {
            (Phase::FetchingToken, Ok(token)) => {
                self.token = Some(token.into());
                self.connect();
            }
            (Phase::FetchingToken, Err(error @ TokenError::Refused)) => self.shut(codes::INVALID_TOKEN, &error.to_string(), None),
            (Phase::FetchingToken, Err(error @ TokenError::Unavailable(_))) => self.cut(&error.to_string(), None, now),
            (Phase::Live(live), Ok(token)) if live.refresh == Refresh::Fetching => {
                live.refresh = Refresh::Never;
                let id = self.calls.next_id();
                let refresh = Some(wire::Refresh { token: &token });
                self.effects.push(Effect::Write(Command { id, refresh, ..Command::default() }.line()));
                self.token = Some(token.into());
                self.calls.sent(id, What::Refresh, now + self.config.call_timeout);
            }
            (Phase::Live(live), Err(TokenError::Unavailable(_))) if live.refresh == Refresh::Fetching => {
                live.refresh = Refresh::At(now + self.config.backoff_max.mul_f64(self.chance.f64()));
            }
            // A token that nobody waits for: the connection it was for is gone. Refused while live: the server ends it.
            _ => {}
        }
    }

    /// The answer to the renewal of the connection's token.
    pub(super) fn refreshed(&mut self, answer: Result<RefreshResult, Refusal>, now: Instant) {
        let later = now + self.config.backoff_max.mul_f64(self.chance.f64());
        let Phase::Live(live) = &mut self.phase else { return };
        live.refresh = match answer {
            Ok(result) => Refresh::before_end(result.expires, result.ttl, now),
            Err(refusal) if is_worth_another(&refusal) => Refresh::At(later),
            // The server ends the connection when the old token does, and then a new one is looked for.
            Err(_) => Refresh::Never,
        };
    }

    pub(super) fn subscription_token(&mut self, id: SubscriptionId, token: Result<String, TokenError>, now: Instant) {
        let Some(entry) = self.subscriptions.get_mut(id) else { return };
        let is_renewal = entry.step == Step::Live && entry.refresh == Refresh::Fetching;
        match token {
            Ok(token) if is_renewal => {
                entry.refresh = Refresh::Never;
                let wire_id = self.calls.next_id();
                let sub_refresh = Some(wire::SubRefresh { channel: &entry.topic, token: &token });
                self.effects.push(Effect::Write(Command { id: wire_id, sub_refresh, ..Command::default() }.line()));
                entry.token = Some(token.into());
                self.calls.sent(wire_id, What::RefreshSubscription(id), now + self.config.call_timeout);
            }
            Err(TokenError::Unavailable(_)) if is_renewal => entry.refresh = Refresh::At(now + entry.backoff.next(self.chance.f64())),
            // Found for a connection that is gone, or refused while the old one holds: the server ends the subscription.
            _ if entry.step != Step::FetchingToken => {}
            Ok(token) => {
                entry.token = Some(token.into());
                entry.step = Step::Waiting;
                self.subscribe_due(now);
            }
            Err(TokenError::Unavailable(_)) => {
                entry.step = Step::RetryAt(now + entry.backoff.next(self.chance.f64()));
            }
            Err(error @ TokenError::Refused) => {
                let refusal = Refusal { code: 101, message: error.to_string().into(), temporary: false };
                self.end_subscription(id, Unsubscribed::Refused(refusal));
            }
        }
    }

    /// Looks for tokens of subscriptions that end soon.
    pub(super) fn refresh_subscriptions_due(&mut self, now: Instant) {
        for id in self.subscriptions.take_refreshes(now) {
            self.effects.push(Effect::FetchToken(TokenFor::Subscription(id)));
        }
    }

    /// The answer to the renewal of a subscription's token.
    pub(super) fn subscription_refreshed(&mut self, id: SubscriptionId, answer: Result<RefreshResult, Refusal>, now: Instant) {
        let Some(entry) = self.subscriptions.get_mut(id).filter(|entry| entry.step == Step::Live) else { return };
        entry.refresh = match answer {
            Ok(result) => {
                entry.backoff.reset();
                Refresh::before_end(result.expires, result.ttl, now)
            }
            Err(refusal) if is_worth_another(&refusal) => Refresh::At(now + entry.backoff.next(self.chance.f64())),
            // The server ends the subscription when the old token does, and then a new one is looked for.
            Err(_) => Refresh::Never,
        };
    }
}

/// Whether a renewal that was refused may work with a token that is found later.
fn is_worth_another(refusal: &Refusal) -> bool {
    refusal.temporary || codes::error_spoils_token(refusal.code)
}
