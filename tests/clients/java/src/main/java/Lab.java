import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** A place to run the cases: clients, names of its own, and patience. */
final class Lab {
    static final Duration SOON = Duration.ofSeconds(30);
    static final Duration STEP = Duration.ofMillis(50);

    private final String bootstrap;
    private final String run = UUID.randomUUID().toString().substring(0, 8);
    private final AtomicInteger names = new AtomicInteger();

    Lab(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    /** A question that is asked until the answer is yes. */
    interface Question {
        boolean holds() throws Exception;
    }

    String name(String prefix) {
        return prefix + "-java-" + run + "-" + names.incrementAndGet();
    }

    Map<String, Object> settings(Object... pairs) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put((String) pairs[i], pairs[i + 1]);
        }
        return settings;
    }

    Admin admin() {
        return Admin.create(settings("default.api.timeout.ms", "30000"));
    }

    KafkaProducer<byte[], byte[]> producer(Object... pairs) {
        return new KafkaProducer<>(settings(pairs), new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** A consumer that reads from the earliest and commits only when told. */
    KafkaConsumer<byte[], byte[]> consumer(String group, Object... pairs) {
        Map<String, Object> settings = settings();
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("session.timeout.ms", "20000");
        settings.put("heartbeat.interval.ms", "500");
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put((String) pairs[i], pairs[i + 1]);
        }
        if ("consumer".equals(settings.get("group.protocol"))) {
            // The server decides on these for such a group.
            settings.remove("session.timeout.ms");
            settings.remove("heartbeat.interval.ms");
        }
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Makes a topic that keeps everything, also records of long ago, unless the settings say otherwise. */
    String topic(int partitions, String... pairs) throws Exception {
        String name = name("topic");
        Map<String, String> configs = new HashMap<>(Map.of("retention.ms", "-1"));
        for (int i = 0; i < pairs.length; i += 2) {
            configs.put(pairs[i], pairs[i + 1]);
        }
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(configs))).all().get();
            awaitPartitions(admin, name, partitions);
        }
        return name;
    }

    /** Kafka acknowledges a change of topics before its metadata shows it. */
    void awaitPartitions(Admin admin, String topic, int wanted) throws Exception {
        until(topic + " with " + wanted + " partitions", () -> {
            try {
                var found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
                return found.partitions().size() == wanted
                        && found.partitions().stream().allMatch(p -> p.leader() != null);
            } catch (ExecutionException e) {
                return false;
            }
        });
    }

    /** Sends values v0, v1, ... with keys k0 to k9, round robin over the partitions, one second after the other. */
    void send(String topic, int partitions, int count, Object... pairs) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(pairs)) {
            for (int i = 0; i < count; i++) {
                byte[] key = bytes("k" + i % 10);
                sent.add(producer.send(new ProducerRecord<>(topic, i % partitions, time(i), key, bytes("v" + i))));
            }
            for (Future<RecordMetadata> one : sent) {
                one.get(30, TimeUnit.SECONDS);
            }
        }
    }

    /** When record {@code i} of {@link #send} was: well before today. */
    static long time(int i) {
        return 1_600_000_000_000L + i * 1000L;
    }

    /** Reads until there are {@code count} records, and fails if there are more. */
    static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count)
            throws Exception {
        List<ConsumerRecord<byte[], byte[]>> all = new ArrayList<>();
        until(count + " records", () -> {
            consumer.poll(STEP).forEach(all::add);
            return all.size() >= count;
        });
        check(all.size() == count, all.size() + " records, not " + count);
        return all;
    }

    static TopicPartition at(String topic, int partition) {
        return new TopicPartition(topic, partition);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    static void until(String what, Question question) throws Exception {
        long deadline = System.nanoTime() + SOON.toNanos();
        while (!question.holds()) {
            check(System.nanoTime() < deadline, what + ": not within " + SOON);
            Thread.sleep(20);
        }
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** Fails unless {@code body} throws an error of this kind, itself or as the cause of another. */
    static void fails(Class<? extends Throwable> kind, Conformance.Body body) {
        try {
            body.run();
        } catch (Throwable thrown) {
            for (Throwable cause = thrown; cause != null; cause = cause.getCause()) {
                if (kind.isInstance(cause)) {
                    return;
                }
            }
            throw new AssertionError("not " + kind.getSimpleName() + " but " + thrown);
        }
        throw new AssertionError("no " + kind.getSimpleName() + ": it was accepted");
    }
}
