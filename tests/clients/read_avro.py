"""Reads a topic with a Kafka client and an Avro library that share nothing with Weir.

usage: read_avro.py BOOTSTRAP TOPIC SCHEMA.avsc

Prints one line of JSON a record, from the topic's start to its end: {"key": ..., "value": ...}; a tombstone's value is
null.
"""

import io
import json
import sys

import avro.io
import avro.schema
from kafka import KafkaConsumer, TopicPartition

# Avro's single-object encoding: two marker bytes and the schema's fingerprint before the datum.
MARKER = b"\xc3\x01"
HEADER_BYTES = 10


def decode(reader, value):
    if value is None:
        return None
    assert value.startswith(MARKER), value[:HEADER_BYTES]
    return reader.read(avro.io.BinaryDecoder(io.BytesIO(value[HEADER_BYTES:])))


def main(bootstrap, topic, schema_file):
    with open(schema_file) as file:
        reader = avro.io.DatumReader(avro.schema.parse(file.read()))
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    while any(consumer.position(p) < ends[p] for p in partitions):
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                line = {"key": record.key.decode(), "value": decode(reader, record.value)}
                print(json.dumps(line, default=str))
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
