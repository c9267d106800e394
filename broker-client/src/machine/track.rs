//! Where one subscription stands: its position, and whether something may be missing. When to subscribe does not live here.

use crate::{
    Event, Gap, GapReason, Position, Since, Subscribed,
    wire::{SubscribeResult, WirePublication},
};

/// The position of one subscription over all its connections. Each publication is told once; every loss is told.
#[derive(Debug, Default)]
pub(super) struct Track {
    position: Option<Position>,
    /// Whether the subscription was ever live, so that something can be missing since.
    was_live: bool,
}

impl Track {
    /// Where the next subscribe resumes from. `first`: what the application asked for before anything was received.
    pub(super) fn resume(&self, recover: bool, first: Option<&Since>) -> Option<Since> {
        if !self.was_live {
            return first.cloned();
        }
        self.position.clone().filter(|_| recover).map(Since::Position)
    }

    /// The last position.
    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The server said that the position is worthless.
    pub(super) fn forget_position(&mut self) {
        self.position = None;
    }

    /// The subscription is live. `since` is what it was asked to resume from.
    pub(super) fn live(&mut self, mut result: SubscribeResult, since: Option<&Since>, out: &mut impl FnMut(Event)) {
        let publications = std::mem::take(&mut result.publications);
        let recovered = since.is_some().then_some(result.recovered);
        let gap = match recovered {
            Some(true) => None,
            Some(false) => Some(GapReason::NotRecovered),
            None => self.was_live.then_some(GapReason::NoHistory),
        };
        // The publications move the position one by one, from where the subscription stood.
        let top = Self::top(&result, &publications);
        self.was_live = true;
        self.position = match (since, recovered) {
            (Some(Since::Position(position)), Some(true)) if top.as_ref().is_none_or(|top| top.epoch == position.epoch) => {
                Some(position.clone())
            }
            _ => top.as_ref().map(|top| Position { offset: 0, epoch: top.epoch.clone() }),
        };
        out(Event::Subscribed(Subscribed { position: top.clone(), recovered, snapshot: result.data }));
        if let Some(reason) = gap {
            out(Event::Gap(Gap { reason, missed: None }));
        }
        for publication in publications {
            if let Some(event) = self.publication(publication) {
                out(event);
            }
        }
        self.position = top;
    }

    /// A publication; `None` when it was told before.
    pub(super) fn publication(&mut self, publication: WirePublication) -> Option<Event> {
        let publication = publication.in_epoch(self.position.as_ref().map(|position| &position.epoch));
        if let Some(position) = &publication.position {
            let known = self.position.as_ref().is_some_and(|known| known.epoch == position.epoch && known.offset >= position.offset);
            if known {
                return None;
            }
            self.position = Some(position.clone());
        }
        Some(Event::Publication(publication))
    }

    /// The top of the history. A server may echo the position that was asked for, so the publications count too.
    fn top(result: &SubscribeResult, publications: &[WirePublication]) -> Option<Position> {
        let mut top = result.position()?;
        top.offset = publications.iter().map(|publication| publication.offset).fold(top.offset, u64::max);
        Some(top)
    }
}
