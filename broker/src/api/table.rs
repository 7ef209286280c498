//! The APIs that are advertised, which are those that are implemented, and the layout of their requests.
//!
//! Layouts are Kafka's published message schemas as far as this broker's versions go; what is optional and carries a
//! tag is left out, since it can be skipped without knowing it.

use kafka_protocol::messages::ApiKey;

use super::layout::Field::{self, Between, From, Until};
use super::layout::Shape::{Bytes, Fixed, Items, List, Text};

/// An API, its first and last version, and what a request consists of.
pub(super) struct Api {
    pub(super) key: ApiKey,
    pub(super) min: i16,
    pub(super) max: i16,
    /// The first version that clients are told.
    pub(super) told_min: i16,
    pub(super) request: &'static [Field],
}

const fn api(key: ApiKey, min: i16, max: i16, request: &'static [Field]) -> Api {
    Api {
        key,
        min,
        max,
        told_min: min,
        request,
    }
}

const I8: Field = From(0, Fixed(1));
const I16: Field = From(0, Fixed(2));
const I32: Field = From(0, Fixed(4));
const I64: Field = From(0, Fixed(8));
const TEXT: Field = From(0, Text);
const BYTES: Field = From(0, Bytes);
const NUMBERS: Field = From(0, Items(&Fixed(4)));
const TEXTS: Field = From(0, Items(&Text));

const fn list(of: &'static [Field]) -> Field {
    From(0, List(of))
}

/// A setting's name and value.
const SETTING: &[Field] = &[TEXT, TEXT];
/// A topic's name and some of its partitions.
const TOPIC_PARTITIONS: &[Field] = &[TEXT, NUMBERS];

pub(super) const APIS: &[Api] = &[
    Api {
        // As Kafka 4 tells it (KAFKA-18659): older librdkafka (2.0) compresses nothing for a server without it, and asks
        // for a newer one.
        told_min: 0,
        ..api(
            ApiKey::Produce,
            3,
            9,
            &[TEXT, I16, I32, list(&[TEXT, list(&[I32, BYTES])])],
        )
    },
    api(
        ApiKey::Fetch,
        4,
        12,
        &[
            I32,
            I32,
            I32,
            I32,
            I8,
            From(7, Fixed(8)),
            list(&[
                TEXT,
                list(&[
                    I32,
                    From(9, Fixed(4)),
                    I64,
                    From(12, Fixed(4)),
                    From(5, Fixed(8)),
                    I32,
                ]),
            ]),
            From(7, List(TOPIC_PARTITIONS)),
            From(11, Text),
        ],
    ),
    api(
        ApiKey::ListOffsets,
        1,
        7,
        &[
            I32,
            From(2, Fixed(1)),
            list(&[TEXT, list(&[I32, From(4, Fixed(4)), I64])]),
        ],
    ),
    api(
        ApiKey::Metadata,
        0,
        12,
        &[
            list(&[From(10, Fixed(16)), TEXT]),
            From(4, Fixed(1)),
            Between(8, 10, Fixed(1)),
            From(8, Fixed(1)),
        ],
    ),
    api(
        ApiKey::OffsetCommit,
        2,
        8,
        &[
            TEXT,
            I32,
            TEXT,
            From(7, Text),
            Until(4, Fixed(8)),
            list(&[TEXT, list(&[I32, I64, From(6, Fixed(4)), TEXT])]),
        ],
    ),
    api(
        ApiKey::OffsetFetch,
        1,
        8,
        &[
            Until(7, Text),
            Until(7, List(TOPIC_PARTITIONS)),
            From(8, List(&[TEXT, list(TOPIC_PARTITIONS)])),
            From(7, Fixed(1)),
        ],
    ),
    api(
        ApiKey::FindCoordinator,
        0,
        4,
        &[Until(3, Text), From(1, Fixed(1)), From(4, Items(&Text))],
    ),
    api(
        ApiKey::JoinGroup,
        0,
        9,
        &[
            TEXT,
            I32,
            From(1, Fixed(4)),
            TEXT,
            From(5, Text),
            TEXT,
            list(&[TEXT, BYTES]),
            From(8, Text),
        ],
    ),
    api(ApiKey::Heartbeat, 0, 4, &[TEXT, I32, TEXT, From(3, Text)]),
    api(
        ApiKey::LeaveGroup,
        0,
        5,
        &[
            TEXT,
            Until(2, Text),
            From(3, List(&[TEXT, TEXT, From(5, Text)])),
        ],
    ),
    api(
        ApiKey::SyncGroup,
        0,
        5,
        &[
            TEXT,
            I32,
            TEXT,
            From(3, Text),
            From(5, Text),
            From(5, Text),
            list(&[TEXT, BYTES]),
        ],
    ),
    api(ApiKey::DescribeGroups, 0, 5, &[TEXTS, From(3, Fixed(1))]),
    api(ApiKey::ListGroups, 0, 4, &[From(4, Items(&Text))]),
    api(ApiKey::ApiVersions, 0, 3, &[From(3, Text), From(3, Text)]),
    api(
        ApiKey::CreateTopics,
        2,
        7,
        &[
            list(&[TEXT, I32, I16, list(&[I32, NUMBERS]), list(SETTING)]),
            I32,
            I8,
        ],
    ),
    api(
        ApiKey::DeleteTopics,
        1,
        6,
        &[
            From(6, List(&[TEXT, From(6, Fixed(16))])),
            Until(5, Items(&Text)),
            I32,
        ],
    ),
    api(
        ApiKey::DeleteRecords,
        0,
        2,
        &[list(&[TEXT, list(&[I32, I64])]), I32],
    ),
    api(
        ApiKey::InitProducerId,
        0,
        4,
        &[TEXT, I32, From(3, Fixed(10))],
    ),
    api(
        ApiKey::OffsetForLeaderEpoch,
        2,
        4,
        &[From(3, Fixed(4)), list(&[TEXT, list(&[I32, I32, I32])])],
    ),
    api(
        ApiKey::DescribeConfigs,
        1,
        4,
        &[list(&[I8, TEXT, TEXTS]), I8, From(3, Fixed(1))],
    ),
    api(
        ApiKey::AlterConfigs,
        0,
        2,
        &[list(&[I8, TEXT, list(SETTING)]), I8],
    ),
    api(
        ApiKey::CreatePartitions,
        0,
        3,
        &[list(&[TEXT, I32, list(&[NUMBERS])]), I32, I8],
    ),
    api(ApiKey::DeleteGroups, 0, 2, &[TEXTS]),
    api(
        ApiKey::IncrementalAlterConfigs,
        0,
        1,
        &[list(&[I8, TEXT, list(&[TEXT, I8, TEXT])]), I8],
    ),
    api(
        ApiKey::OffsetDelete,
        0,
        0,
        &[TEXT, list(&[TEXT, list(&[I32])])],
    ),
    api(ApiKey::DescribeCluster, 0, 1, &[I8, From(1, Fixed(1))]),
    // Only to be refused: librdkafka would wait for ever for a broker that has it.
    api(
        ApiKey::ConsumerGroupHeartbeat,
        0,
        1,
        &[
            TEXT,
            TEXT,
            I32,
            TEXT,
            TEXT,
            I32,
            TEXTS,
            From(1, Text),
            TEXT,
            list(&[From(0, Fixed(16)), NUMBERS]),
        ],
    ),
];
