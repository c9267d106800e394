//! What a joiner gets before what is live: a part of a list that everybody shares whom one read served.

use std::{mem, sync::Arc};

use crate::Publication;

/// Publications for one joiner, oldest first. Cloning copies a pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missed {
    list: Arc<[Arc<Publication>]>,
    from: usize,
}

impl Missed {
    /// The part of a list that begins with its `from`th.
    pub(crate) fn part(list: &Arc<[Arc<Publication>]>, from: usize) -> Self {
        if from < list.len() { Self { list: list.clone(), from } } else { Self::default() }
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &[Arc<Publication>] {
        &self.list[self.from..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Takes from the front what `is_meant`, until it weighs so many bytes; one publication at least. What is not meant is passed over.
    pub(crate) fn take_page(&mut self, max_bytes: usize, is_meant: impl Fn(&Publication) -> bool) -> Vec<Arc<Publication>> {
        let mut bytes = 0_usize;
        let mut page = Vec::new();
        while let Some(publication) = self.list.get(self.from) {
            if is_meant(publication) {
                bytes = bytes.saturating_add(publication.weight_bytes());
                if bytes > max_bytes && !page.is_empty() {
                    return page;
                }
                page.push(publication.clone());
            }
            self.from += 1;
        }
        // Nobody else may need the list any more.
        drop(mem::take(self));
        page
    }

    /// Takes the first one.
    pub(crate) fn take_first(&mut self) -> Option<Arc<Publication>> {
        let first = self.rest().first().cloned();
        match self.rest().len() {
            0 => {}
            1 => *self = Self::default(),
            _ => self.from += 1,
        }
        first
    }
}

impl From<Vec<Arc<Publication>>> for Missed {
    fn from(list: Vec<Arc<Publication>>) -> Self {
        if list.is_empty() { Self::default() } else { Self { list: list.into(), from: 0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, Publish};

    #[test]
    fn a_page_holds_what_fits_and_one_at_least() {
        let publication = |len| Arc::new(Publication::new("news".parse().unwrap(), Publish::new(Payload::text("x".repeat(len)))));
        let list: Arc<[_]> = vec![publication(0), publication(0), publication(500), publication(0)].into();
        let weight = list[0].weight_bytes();
        let all = |_: &Publication| true;
        let mut missed = Missed::part(&list, 0);
        assert_eq!(missed.take_page(2 * weight, all).len(), 2);
        assert_eq!(missed.take_page(2 * weight, all).len(), 1);
        assert_eq!(missed.take_page(2 * weight, all).len(), 1);
        assert!(missed.is_empty() && missed.take_page(weight, all).is_empty());
        assert!(Missed::part(&list, 4).is_empty());
        assert_eq!(Missed::part(&list, 0).take_page(weight, |publication| publication.data.len() == 500).len(), 1);
    }
}
