use serde::{Deserialize, Serialize};

/// A sum, packed: there are millions of counters, and the alignment of an `i128` would cost each of them 16 bytes more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(Rust, packed(8))]
pub(super) struct Sum(i128);

impl Sum {
    pub(super) fn get(self) -> i128 {
        self.0
    }
}

impl From<i128> for Sum {
    fn from(sum: i128) -> Self {
        Self(sum)
    }
}
