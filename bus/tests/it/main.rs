//! The bus on the embedded log, through a real socket.

mod checks;
mod embedded;
mod outage;

use checks::Fresh;
use embedded::Log;

/// Runs one check on an empty log of its own.
macro_rules! on_an_empty_log {
    ($($check:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $check() {
            let log = Log::start().await;
            checks::$check(&Fresh::new(log.bootstrap())).await;
            log.stop().await;
        }
    )*};
}

on_an_empty_log!(
    sends_in_order,
    answers_for_each_record,
    keeps_headers_and_tombstones,
    resumes_where_the_service_says,
    resumes_where_the_group_committed,
    hands_partitions_over,
    does_not_wait_for_ever_for_a_hand_over,
    a_full_channel_loses_nothing,
    tells_which_partition_is_caught_up,
    an_impossible_offset_stops_the_reader,
    follows_from_the_start_to_now_and_on,
    reads_all_that_stands,
    keeps_the_layout,
);
