//! When a token holds, and when what it opens ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_core::{Refusal, RefusalKind};

use super::{
    Checks, ReadClaims,
    value::{Place, moment},
};

/// The times of a token that holds.
pub(super) struct Times {
    pub(super) issued_at: Option<SystemTime>,
    /// When the connection or subscription ends: `expire_at`, else `exp`, and the leeway after it; `None`: never.
    pub(super) ends_at: Option<SystemTime>,
}

impl Times {
    /// Reads them all, and refuses a token that does not hold.
    pub(super) fn read(claims: &ReadClaims<'_>, checks: &Checks<'_>) -> Result<Self, Refusal> {
        let exp = claims.exp.map(|exp| moment(Place::Claim("exp"), exp)).transpose()?;
        let not_before = claims.nbf.map(|nbf| moment(Place::Claim("nbf"), nbf)).transpose()?;
        let issued_at = claims.iat.map(|iat| moment(Place::Claim("iat"), iat)).transpose()?;
        let expire_at = claims.expire_at.map(|at| moment(Place::Claim("expire_at"), at)).transpose()?;
        // spec: centrifuge, "expire_at": 0 means never, whatever `exp` says.
        let ends_at = match expire_at {
            Some(UNIX_EPOCH) => None,
            Some(at) => Some(at),
            None => exp,
        };
        for (claim, at) in [("exp", exp), ("expire_at", ends_at.filter(|_| expire_at.is_some()))] {
            // The year 9999 and any leeway of this century fit; what does not, never ends.
            let ends = at.and_then(|at| at.checked_add(checks.leeway));
            if let Some(late) = ends.and_then(|ends| checks.now.duration_since(ends).ok()) {
                return Err(expired(claim, late, checks));
            }
        }
        let early = not_before.and_then(|begins| begins.duration_since(checks.now).ok());
        if let Some(early) = early.filter(|early| *early > checks.leeway) {
            return Err(too_early(early, checks));
        }
        // What opens a connection late in the leeway must not be over at once.
        Ok(Self { issued_at, ends_at: ends_at.and_then(|at| at.checked_add(checks.leeway)) })
    }
}

fn expired(claim: &str, late: Duration, checks: &Checks<'_>) -> Refusal {
    Refusal::new(RefusalKind::TokenExpired, format!("the token ended {} s ago", late.as_secs()))
        .hint("ask the application for a new token")
        .rule(format!("claim {claim} is past; {}.leeway is {} s", checks.section, checks.leeway.as_secs()))
}

fn too_early(early: Duration, checks: &Checks<'_>) -> Refusal {
    let seconds = early.as_secs() + u64::from(early.subsec_nanos() > 0);
    Refusal::unauthorized(format!("the token holds only in {seconds} s")).hint("compare the clocks of the two servers").rule(format!(
        "claim nbf is to come; {}.leeway is {} s",
        checks.section,
        checks.leeway.as_secs()
    ))
}
