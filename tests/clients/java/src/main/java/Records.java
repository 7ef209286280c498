import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.LogTruncationException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Writing and reading. */
final class Records {
    private final Lab lab;

    Records(Lab lab) {
        this.lab = lab;
    }

    List<Conformance.Case> cases() {
        List<Conformance.Case> cases = new ArrayList<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            cases.add(new Conformance.Case("codec " + codec, () -> codec(codec)));
        }
        cases.add(new Conformance.Case("a seek into the middle", this::seek));
        cases.add(new Conformance.Case("offsets of times", this::times));
        cases.add(new Conformance.Case("a write wakes a waiting reader", this::wakes));
        cases.add(new Conformance.Case("a tombstone in a compacted topic", this::tombstone));
        cases.add(new Conformance.Case("a log that was cut is noticed", this::cut));
        return cases;
    }

    private void codec(String codec) throws Exception {
        String topic = lab.topic(3);
        lab.send(topic, 3, 900, "compression.type", codec, "linger.ms", "20");
        try (var consumer = lab.consumer(lab.name("group"))) {
            consumer.subscribe(List.of(topic));
            Set<String> values = new TreeSet<>();
            long[] next = new long[3];
            for (var record : Lab.read(consumer, 900)) {
                values.add(Lab.text(record.value()));
                Lab.check(record.offset() == next[record.partition()]++, "offset " + record.offset());
            }
            Lab.check(values.size() == 900, values.size() + " different values");
        }
    }

    private void seek() throws Exception {
        String topic = lab.topic(1);
        lab.send(topic, 1, 200, "batch.size", "500");
        try (var consumer = lab.consumer(lab.name("group"), "max.poll.records", "1")) {
            var partition = Lab.at(topic, 0);
            consumer.assign(List.of(partition));
            for (long target : new long[] {137, 3, 199, 0}) {
                consumer.seek(partition, target);
                long found = Lab.read(consumer, 1).get(0).offset();
                Lab.check(found == target, "sought " + target + ", found " + found);
            }
            consumer.seekToEnd(List.of(partition));
            Lab.check(consumer.position(partition) == 200, "the end is " + consumer.position(partition));
        }
    }

    private void times() throws Exception {
        String topic = lab.topic(1);
        lab.send(topic, 1, 100, "batch.size", "500");
        try (var consumer = lab.consumer(lab.name("group"))) {
            var partition = Lab.at(topic, 0);
            var found = consumer.offsetsForTimes(Map.of(partition, Lab.time(50) - 1)).get(partition);
            Lab.check(found.offset() == 50 && found.timestamp() == Lab.time(50), "found " + found);
            Lab.check(found.leaderEpoch().isPresent(), "no leader epoch");
            var none = consumer.offsetsForTimes(Map.of(partition, Lab.time(100))).get(partition);
            Lab.check(none == null, "after the last: " + none);
            Lab.check(consumer.beginningOffsets(List.of(partition)).get(partition) == 0, "the start");
            Lab.check(consumer.endOffsets(List.of(partition)).get(partition) == 100, "the end");
        }
        try (var admin = lab.admin()) {
            var spec = org.apache.kafka.clients.admin.OffsetSpec.maxTimestamp();
            var newest = admin.listOffsets(Map.of(Lab.at(topic, 0), spec)).all().get().get(Lab.at(topic, 0));
            Lab.check(newest.offset() == 99 && newest.timestamp() == Lab.time(99), "the newest: " + newest);
        }
    }

    /** The reader waits for a byte or a minute and a half, longer than the case has. */
    private void wakes() throws Exception {
        String topic = lab.topic(1);
        Object[] patient = {"fetch.max.wait.ms", "90000", "request.timeout.ms", "100000"};
        try (var consumer = lab.consumer(lab.name("group"), patient); var producer = lab.producer()) {
            consumer.assign(List.of(Lab.at(topic, 0)));
            for (int i = 0; i < 3; i++) {
                Lab.check(consumer.poll(Duration.ofMillis(400)).isEmpty(), "a record too many");
                send(producer, topic, "k", "v" + i);
                String value = Lab.text(Lab.read(consumer, 1).get(0).value());
                Lab.check(value.equals("v" + i), value);
            }
        }
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, String topic, String key, String value)
            throws Exception {
        byte[] bytes = value == null ? null : Lab.bytes(value);
        producer.send(new ProducerRecord<>(topic, 0, Lab.bytes(key), bytes)).get(30, TimeUnit.SECONDS);
    }

    private void tombstone() throws Exception {
        String topic = lab.topic(1, "cleanup.policy", "compact");
        try (var producer = lab.producer()) {
            send(producer, topic, "a", "1");
            send(producer, topic, "b", "2");
            send(producer, topic, "a", null);
            Lab.fails(org.apache.kafka.common.InvalidRecordException.class, () ->
                    producer.send(new ProducerRecord<>(topic, 0, null, Lab.bytes("no key"))).get());
        }
        try (var consumer = lab.consumer(lab.name("group"))) {
            consumer.assign(List.of(Lab.at(topic, 0)));
            var last = Lab.read(consumer, 3).get(2);
            Lab.check(Lab.text(last.key()).equals("a") && last.value() == null, "the last is " + last);
        }
    }

    /** A position that claims an epoch whose end is before it: the client asks, and says where they part. */
    private void cut() throws Exception {
        String topic = lab.topic(1);
        lab.send(topic, 1, 20);
        try (var consumer = lab.consumer(lab.name("group"), "auto.offset.reset", "none")) {
            var partition = Lab.at(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seek(partition, new OffsetAndMetadata(7, Optional.of(0), ""));
            long found = first(consumer);
            Lab.check(found == 7, "sought 7 with its epoch, found " + found);
            consumer.seek(partition, new OffsetAndMetadata(500, Optional.of(0), ""));
            try {
                first(consumer);
            } catch (LogTruncationException noticed) {
                long divergent = noticed.divergentOffsets().get(partition).offset();
                Lab.check(divergent == 20, "they part at " + divergent);
                return;
            }
            throw new AssertionError("it was not noticed");
        }
    }

    private static long first(KafkaConsumer<byte[], byte[]> consumer) throws Exception {
        long[] found = {-1};
        Lab.until("a record", () -> {
            for (var record : consumer.poll(Lab.STEP)) {
                found[0] = record.offset();
                break;
            }
            return found[0] >= 0;
        });
        return found[0];
    }
}
