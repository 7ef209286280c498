//! A compacted topic from its start to now, and on.

use std::marker::PhantomData;

use schemas::codec::Wire;

use crate::error::BusError;

pub struct Follower<V>(PhantomData<fn() -> V>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed<V> {
    Put {
        key: String,
        value: V,
        partition: i32,
        offset: i64,
    },
    Lifted {
        key: String,
        partition: i32,
        offset: i64,
    },
    Unreadable {
        key: String,
        partition: i32,
        offset: i64,
        reason: String,
    },
    CaughtUp,
    Lost,
    Back,
}

impl<V: Wire> Follower<V> {
    pub async fn next(&mut self) -> Result<Followed<V>, BusError> {
        Err(BusError::Closed)
    }
}
