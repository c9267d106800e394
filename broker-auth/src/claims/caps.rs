//! The claim `caps`: rights beyond what namespaces allow.

use broker_core::{Capability, InvalidPattern, Refusal, Topic, TopicPattern, Verb, Verbs};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::value::{Place, list, object, present, text};

/// Most capabilities of one token, and most patterns of one capability.
const MAX: usize = 128;

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    channels: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", rename = "match")]
    matching: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    allow: Option<&'a RawValue>,
}

/// How the entries of `channels` are meant.
#[derive(Clone, Copy, PartialEq)]
enum Matching {
    Exact,
    Wildcard,
}

/// Reads all; one that cannot be read refuses the token: a right that is not given is looked for in vain for hours.
pub(super) fn read(value: &RawValue) -> Result<Vec<Capability>, Refusal> {
    let place = Place::Claim("caps");
    let capabilities = list(place, value, MAX)?;
    capabilities.into_iter().enumerate().map(|(index, value)| capability(Place::Element(&place, index), value)).collect()
}

fn capability(place: Place<'_>, value: &RawValue) -> Result<Capability, Refusal> {
    let written: Written<'_> = object(place, value)?;
    let matching = written.matching.map_or(Ok(Matching::Exact), |value| matching(Place::Field(&place, "match"), value))?;
    let channels = Place::Field(&place, "channels");
    let names = list(channels, written.channels.ok_or_else(|| channels.refusal("is missing"))?, MAX)?;
    let topics = names.into_iter().enumerate().map(|(index, name)| pattern(Place::Element(&channels, index), name, matching));
    let topics = topics.collect::<Result<_, _>>()?;
    let allow = Place::Field(&place, "allow");
    let words = list(allow, written.allow.ok_or_else(|| allow.refusal("is missing"))?, MAX)?;
    let verbs = words.into_iter().enumerate().map(|(index, word)| verb(Place::Element(&allow, index), word));
    Ok(Capability { topics, allow: verbs.collect::<Result<Verbs, _>>()? })
}

fn matching(place: Place<'_>, value: &RawValue) -> Result<Matching, Refusal> {
    match &*text(place, value)? {
        "" | "exact" => Ok(Matching::Exact),
        "wildcard" => Ok(Matching::Wildcard),
        "regex" => Err(place.refusal("is `regex`, which is not supported").hint("use `wildcard`: `*` is one level and `>` the rest")),
        _ => Err(place.refusal("must be `exact` or `wildcard`")),
    }
}

fn pattern(place: Place<'_>, value: &RawValue, matching: Matching) -> Result<TopicPattern, Refusal> {
    let name = text(place, value)?;
    let is_inside_a_tenant = name.starts_with("tenant:");
    if is_inside_a_tenant {
        return Err(place.refusal("is inside a tenant").hint("name the tenant in the claim `tenant`, and topics without it"));
    }
    match matching {
        Matching::Wildcard => name.parse().map_err(|error: InvalidPattern| place.refusal(format_args!("is no pattern: {error}"))),
        Matching::Exact => {
            let topic: Topic = name.parse().map_err(|error| {
                let refusal = place.refusal(format_args!("is no name of a topic: {error}"));
                if name.contains(['*', '>']) { refusal.hint("for patterns, set `match` to `wildcard`") } else { refusal }
            })?;
            Ok(TopicPattern::exactly(&topic))
        }
    }
}

fn verb(place: Place<'_>, value: &RawValue) -> Result<Verb, Refusal> {
    let word = text(place, value)?;
    let found = Verb::ALL.into_iter().find(|verb| verb.word() == word);
    found.ok_or_else(|| place.refusal("must be `sub`, `pub`, `hst` or `prs`"))
}
