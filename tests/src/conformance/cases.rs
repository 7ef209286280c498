//! The list. Long ones first: several run at a time.

use super::Home::{Embedded, Kafka};
use super::{
    Case, NO_ACLS, NO_KIP_848, NO_TRANSACTIONS, admin, case, cleanup, epochs, fetching, groups,
    idempotence, kcat, members, only, raw, reading, refusals, versions, writing,
};

const ALL_KNOWN: &str = "Kafka has APIs for brokers and controllers too";
const PRODUCER_COMPRESSES: &str = "the embedded log never recompresses, and says so";

/// All cases.
pub const CASES: &[Case] = &[
    case("retention drops what is old", cleanup::retention),
    case("compaction keeps the last of each key", cleanup::compaction),
    case(
        "a static member that dies loses its partitions",
        groups::static_member_dies,
    ),
    case("two members share by range", groups::range),
    case("two members share cooperatively", groups::cooperative),
    case(
        "a static member keeps its partitions over a restart",
        groups::static_member_returns,
    ),
    case("a silent member's session ends", members::session),
    case(
        "a third member comes and goes cooperatively, and nothing else moves",
        groups::third_cooperative,
    ),
    case(
        "a second static member fences the first",
        groups::same_instance,
    ),
    case(
        "every advertised version of every API is answered",
        versions::answered,
    ),
    case(
        "a member that does not rejoin in time is left behind",
        members::rebalance,
    ),
    case(
        "kcat lists, produces, consumes and queries",
        kcat::round_trip,
    ),
    case("kcat compresses with every codec", kcat::codecs),
    case("thirty topics in one request", fetching::many_topics),
    case(
        "a batch larger than a reader's bounds is read",
        fetching::large,
    ),
    case("lost replies lead to no duplicates", writing::lost_replies),
    case(
        "eight producers at once keep their order",
        writing::concurrent_producers,
    ),
    case("every codec, idempotent", writing::codecs),
    case("a waiting reader is woken by a write", reading::woken),
    case("metadata names the broker and the cluster", admin::metadata),
    case("topics are created once", admin::create),
    case("wrong topics are refused", admin::create_refused),
    case("topic configuration is described", admin::describe_configs),
    case("topic configuration is altered", admin::alter_configs),
    case("a wrong alteration changes nothing", admin::alter_refused),
    case("partitions are added and never taken away", admin::grow),
    case("a deleted topic comes back empty", admin::delete),
    case("records are deleted up to an offset", admin::delete_records),
    case(
        "a compacted topic refuses deletion of records",
        admin::delete_records_refused,
    ),
    case("a group is deleted with its offsets", admin::delete_group),
    case(
        "an unknown topic is not made by writing to it",
        writing::unknown_topic,
    ),
    case(
        "timestamps, headers, tombstones, null and empty keys",
        writing::shapes,
    ),
    case(
        "a message over the limit is refused, the next is not",
        writing::too_large,
    ),
    case(
        "a compacted topic refuses a record without a key",
        writing::keyless,
    ),
    case("the log can stamp records itself", writing::append_time),
    case("watermarks and seeking to any record", reading::seek),
    case("a position out of range resets", reading::out_of_range),
    case("offsets for times", reading::times),
    case(
        "committed offsets are kept and resumed from",
        reading::commit,
    ),
    case("committed offsets carry metadata", reading::commit_metadata),
    case("a group is listed while it has members", groups::listed),
    case(
        "a stranger may not commit for a group with members",
        groups::stranger,
    ),
    case(
        "too new a version of ApiVersions is told what there is",
        raw::versions,
    ),
    case(
        "an unknown request closes the connection only",
        raw::unknown,
    ),
    case("garbage closes the connection only", raw::garbage),
    case("half a request disturbs nobody", raw::half),
    case(
        "versions beyond the advertised close the connection only",
        versions::beyond,
    ),
    case(
        "what is not advertised closes the connection only",
        versions::not_advertised,
    ),
    case("a fetch keeps to its bounds", fetching::bounds),
    case(
        "a fetch keeps to its bounds over all partitions",
        fetching::bounds_together,
    ),
    case("a fetch waits for its minimum", fetching::minimum),
    case(
        "a fetch answers when its patience ends",
        fetching::impatience,
    ),
    case(
        "a fetch that cannot succeed does not wait",
        fetching::errors_do_not_wait,
    ),
    case(
        "a fetch that waits learns that its topic is gone",
        fetching::deleted,
    ),
    case(
        "requests of one connection are answered in their order",
        fetching::in_order,
    ),
    case(
        "a reader goes on at the new start when records are deleted",
        fetching::reader_behind_the_start,
    ),
    case("the end of a leader's epoch is told", epochs::ends),
    case(
        "a client with an epoch of the future is refused",
        epochs::future,
    ),
    case("a client notices that its log was cut", epochs::truncated),
    case(
        "offsets of times, of the ends, of the newest record",
        epochs::times,
    ),
    case("producer ids are never given twice", idempotence::ids),
    case(
        "a batch sent again is acknowledged where it lies",
        idempotence::duplicates,
    ),
    case("a gap in the sequence is refused", idempotence::gaps),
    case(
        "a new epoch of a producer starts anew, the old one is fenced",
        idempotence::epochs,
    ),
    case(
        "a producer whose records are gone goes on",
        idempotence::forgotten,
    ),
    case("what is no batch is refused", idempotence::no_batches),
    case(
        "zstd is refused from those who cannot know it",
        idempotence::zstd_since,
    ),
    case(
        "records from too far in time are refused",
        idempotence::timestamps,
    ),
    case("each acks has its answer, or none", idempotence::acks),
    case("new members come back with their id", members::ids),
    case(
        "who is not a member of this generation is told so",
        members::strangers,
    ),
    case("wrong joins are refused", members::wrong_joins),
    case(
        "a static member is fenced by its successor in every request",
        members::fenced,
    ),
    case(
        "a static leader that returns has nothing to assign",
        members::leader_returns,
    ),
    case(
        "static members are removed by an administrator",
        members::removed,
    ),
    case(
        "offsets of what a group reads are not deleted",
        members::offsets_deleted,
    ),
    case(
        "an unknown kind of coordinator is refused",
        refusals::no_such_coordinator,
    ),
    case(
        "an unknown fetch session is refused",
        refusals::no_such_session,
    ),
    only(
        Kafka,
        NO_TRANSACTIONS,
        "transactions",
        writing::transactions,
    ),
    only(
        Embedded,
        NO_TRANSACTIONS,
        "transactions are refused",
        writing::no_transactions,
    ),
    only(
        Embedded,
        NO_TRANSACTIONS,
        "each step of a transaction is refused",
        refusals::no_transactions,
    ),
    only(
        Embedded,
        ALL_KNOWN,
        "nothing else is advertised than what is asked for here",
        versions::all_asked,
    ),
    only(
        Kafka,
        NO_ACLS,
        "ACLs can be switched on",
        refusals::acls_are_off,
    ),
    only(
        Embedded,
        NO_ACLS,
        "ACLs are not advertised",
        refusals::no_acls,
    ),
    only(Kafka, NO_KIP_848, "groups of KIP-848", groups::kip_848),
    only(
        Embedded,
        NO_KIP_848,
        "groups of KIP-848 are refused",
        groups::no_kip_848,
    ),
    only(
        Kafka,
        PRODUCER_COMPRESSES,
        "compression by the broker",
        admin::compression,
    ),
    only(
        Embedded,
        PRODUCER_COMPRESSES,
        "compression.type is refused",
        admin::no_compression,
    ),
];
