//! The log as Weir's services see it: typed producer, batch consumer, follower, topics and the clock.
