//! Several windows that take the same amounts.

use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::sliding::{Slices, View, Width};
use super::{Amount, Other, Resized, Seen, Terms, rank};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    ids: Box<[u32]>,
    /// In the order of their width.
    tracks: Box<[Track]>,
    /// The windows that slide, those of the first track first. They have the first numbers.
    views: Box<[View]>,
    /// All other windows.
    others: Box<[Other]>,
}

/// Slices of one width, and how many windows look at them: one at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Track {
    slices: Slices,
    width: Width,
    views: u16,
}

impl Group {
    /// Empty windows in the order of their rank.
    pub(super) fn new(windows: impl Iterator<Item = (u32, Terms)> + Clone, at: Timestamp) -> Self {
        let ranks = windows.clone().map(|(_, terms)| rank(terms.window));
        debug_assert!(ranks.is_sorted(), "windows that share slices lie together");
        let (mut tracks, mut views, mut others) = (Vec::<Track>::new(), Vec::new(), Vec::new());
        for (_, terms) in windows.clone() {
            let Some(width) = Width::of(terms.window) else {
                others.push(Other::new(terms, at));
                continue;
            };
            views.push(View::new(terms.window));
            match tracks.last_mut() {
                Some(track) if track.width == width => track.views += 1,
                _ => tracks.push(Track {
                    slices: Slices::new(width.index(at)),
                    width,
                    views: 1,
                }),
            }
        }
        Self {
            ids: windows.map(|(id, _)| id).collect(),
            tracks: tracks.into(),
            views: views.into(),
            others: others.into(),
        }
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The place of the track that a window which slides looks at, and the number of that track's first.
    fn track(&self, number: usize) -> (usize, usize) {
        let (mut place, mut first) = (0, 0);
        while first + usize::from(self.tracks[place].views) <= number {
            first += usize::from(self.tracks[place].views);
            place += 1;
        }
        (place, first)
    }

    pub(super) fn seen(&self, number: usize) -> Seen<'_> {
        match self.views.get(number) {
            Some(view) => Seen::Sliding(&self.tracks[self.track(number).0].slices, view),
            None => Seen::Other(&self.others[number - self.views.len()]),
        }
    }

    pub(super) fn other(&mut self, number: usize) -> Option<&mut Other> {
        let place = number.checked_sub(self.views.len())?;
        self.others.get_mut(place)
    }

    pub(super) fn advance(&mut self, number: usize, terms: Terms, to: Timestamp) {
        if let Some(other) = self.other(number) {
            return other.advance(terms, to);
        }
        let (place, first) = self.track(number);
        let track = &mut self.tracks[place];
        let views = &mut self.views[first..][..track.views.into()];
        let head = track.width.index(to);
        track.slices.advance(views, number - first, head);
    }

    pub(super) fn add(&mut self, terms: impl Fn(usize, u32) -> Terms, amount: Amount) -> Resized {
        let mut all = Resized::default();
        let mut rest = &mut *self.views;
        for track in &mut self.tracks {
            let (views, others) = rest.split_at_mut(track.views.into());
            rest = others;
            let index = track.width.index(amount.at);
            if track.slices.open_index() < index {
                // What is charged must not depend on when it was done last.
                track.slices.forget(views, track.width.index(amount.floor));
            }
            let resized = track.slices.add(views, index, amount.amount);
            all.before += resized.before;
            all.after += resized.after;
        }
        for (number, other) in (self.views.len()..).zip(&mut self.others) {
            other.add(terms(number, self.ids[number]), amount.at, amount.amount);
        }
        all
    }

    pub(super) fn forget(&mut self, terms: impl Fn(usize, u32) -> Terms, floor: Timestamp) {
        let mut rest = &mut *self.views;
        for track in &mut self.tracks {
            let (views, others) = rest.split_at_mut(track.views.into());
            rest = others;
            track.slices.forget(views, track.width.index(floor));
        }
        for (number, other) in (self.views.len()..).zip(&mut self.others) {
            if other.forgettable_from(terms(number, self.ids[number])) <= floor {
                other.clear();
            }
        }
    }

    pub(super) fn remove(&mut self, number: usize) {
        remove(&mut self.ids, number);
        if let Some(place) = number.checked_sub(self.views.len()) {
            return remove(&mut self.others, place);
        }
        let (place, first) = self.track(number);
        remove(&mut self.views, number);
        let track = &mut self.tracks[place];
        track.views -= 1;
        if track.views == 0 {
            return remove(&mut self.tracks, place);
        }
        let views = &mut self.views[first..][..track.views.into()];
        track.slices.trim(views);
    }

    /// Bytes that it takes beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        let tracks = self.tracks.iter();
        let slices: usize = tracks.map(|track| track.slices.heap_bytes()).sum();
        size_of_val(&*self.ids)
            + size_of_val(&*self.tracks)
            + size_of_val(&*self.views)
            + size_of_val(&*self.others)
            + slices
    }
}

fn remove<T>(list: &mut Box<[T]>, place: usize) {
    let mut items = Vec::from(std::mem::take(list));
    items.remove(place);
    *list = items.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Windows;
    use crate::window::tests::{ALL, Scene};

    #[test]
    fn it_takes_what_its_lists_take() {
        let scene = Scene::new(&ALL);
        let Windows::Many(group) = scene.windows else {
            panic!("{} windows are a group", ALL.len());
        };
        let lists = 6 * size_of::<u32>()
            + 3 * size_of::<Track>()
            + 3 * size_of::<View>()
            + 3 * size_of::<Other>();
        assert_eq!(group.heap_bytes(), lists);
    }
}
