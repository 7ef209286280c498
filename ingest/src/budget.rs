//! Memory for requests in progress, all together. A request takes more as its body comes, and gives it back when it
//! is answered; what does not fit is refused at once, never queued.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which memory is counted.
const GRAIN_BYTES: usize = 1 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Semaphore>);

/// One request's share.
#[derive(Debug, Default)]
pub(crate) struct Share {
    permit: Option<OwnedSemaphorePermit>,
    grains: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes_max.div_ceil(GRAIN_BYTES))))
    }

    /// Makes `share` cover `bytes`; `false`, and nothing changed, when there is no room.
    pub(crate) fn cover(&self, share: &mut Share, bytes: usize) -> bool {
        let grains = bytes.div_ceil(GRAIN_BYTES);
        let Some(more) = grains.checked_sub(share.grains).filter(|more| *more != 0) else {
            return true;
        };
        let Ok(more) = u32::try_from(more) else {
            return false;
        };
        let Ok(permit) = Arc::clone(&self.0).try_acquire_many_owned(more) else {
            return false;
        };
        share.grains = grains;
        match &mut share.permit {
            Some(held) => held.merge(permit),
            None => share.permit = Some(permit),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_bytes(budget: &Budget) -> usize {
        budget.0.available_permits() * GRAIN_BYTES
    }

    #[test]
    fn gives_back_what_it_took() {
        let budget = Budget::new(10 << 10);
        let (mut one, mut two) = (Share::default(), Share::default());
        assert!(budget.cover(&mut one, 1) && budget.cover(&mut one, 4 << 10));
        assert!(budget.cover(&mut one, 100), "covered already");
        assert_eq!(free_bytes(&budget), 6 << 10);
        assert!(!budget.cover(&mut two, 7 << 10), "no room");
        assert!(budget.cover(&mut two, 6 << 10));
        assert!(!budget.cover(&mut one, 5 << 10));
        drop(one);
        assert_eq!(free_bytes(&budget), 4 << 10);
        drop(two);
        assert_eq!(free_bytes(&budget), 10 << 10);
        assert!(!budget.cover(&mut Share::default(), usize::MAX));
    }
}
