//! What may fail again and again, with every write to a full disk say: it is told when it begins and when it is over.

use std::sync::atomic::{AtomicU64, Ordering};

/// One kind of failure of one thing.
#[derive(Debug, Default)]
pub(crate) struct Trouble(AtomicU64);

impl Trouble {
    /// It failed. `true` for the first time since it last worked.
    pub(crate) fn begins(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// It worked. How often it failed before, if it did.
    pub(crate) fn ends(&self) -> Option<u64> {
        if self.0.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Some(self.0.swap(0, Ordering::Relaxed)).filter(|times| *times > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_when_it_begins_and_when_it_is_over() {
        let trouble = Trouble::default();
        assert_eq!(trouble.ends(), None);
        assert!(trouble.begins());
        assert!(!trouble.begins());
        assert_eq!(trouble.ends(), Some(2));
        assert_eq!(trouble.ends(), None);
        assert!(trouble.begins());
    }
}
