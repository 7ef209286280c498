import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Consumer groups of the classic protocol. */
final class Groups {
    private final Lab lab;

    Groups(Lab lab) {
        this.lab = lab;
    }

    List<Conformance.Case> cases() {
        return List.of(
                new Conformance.Case("a group of two shares cooperatively", this::cooperative),
                new Conformance.Case("a static member keeps its partitions", this::staticMember),
                new Conformance.Case("a static member is fenced by its successor", this::fenced),
                new Conformance.Case("commit and resume", this::commit));
    }

    /** A consumer in a group, and what was given to it and taken from it. */
    private static final class Member implements ConsumerRebalanceListener, AutoCloseable {
        final KafkaConsumer<byte[], byte[]> consumer;
        final Set<Integer> has = new TreeSet<>();
        final Set<Integer> taken = new TreeSet<>();
        int given;

        Member(KafkaConsumer<byte[], byte[]> consumer, String topic) {
            this.consumer = consumer;
            consumer.subscribe(List.of(topic), this);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            partitions.forEach(p -> has.add(p.partition()));
            given++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            partitions.forEach(p -> has.remove(p.partition()));
            partitions.forEach(p -> taken.add(p.partition()));
        }

        @Override
        public void close() {
            consumer.close();
        }
    }

    private static void turnUntil(String what, Lab.Question question, Set<String> seen, Member... members)
            throws Exception {
        Lab.until(what, () -> {
            for (Member member : members) {
                member.consumer.poll(Lab.STEP).forEach(r -> {
                    boolean isNew = seen.add(r.partition() + "/" + r.offset());
                    Lab.check(isNew, "read twice: " + r.partition() + "/" + r.offset());
                });
            }
            return question.holds();
        });
    }

    /** A record that a member had read stays read by the next owner only if it was committed: here it always is. */
    private void cooperative() throws Exception {
        String topic = lab.topic(4);
        String group = lab.name("group");
        Object[] settings = {
            "partition.assignment.strategy", CooperativeStickyAssignor.class.getName(),
            "enable.auto.commit", "true", "auto.commit.interval.ms", "100"
        };
        lab.send(topic, 4, 200);
        Set<String> seen = new HashSet<>();
        try (Member a = new Member(lab.consumer(group, settings), topic)) {
            turnUntil("one", () -> a.has.size() == 4 && seen.size() == 200, seen, a);
            try (Member b = new Member(lab.consumer(group, settings), topic)) {
                turnUntil("two", () -> a.has.size() == 2 && b.has.size() == 2, seen, a, b);
                Lab.check(a.taken.equals(b.has), a.taken + " were taken for " + b.has);
                a.taken.clear();
                lab.send(topic, 4, 200);
                turnUntil("both read", () -> seen.size() == 400, seen, a, b);
            }
            turnUntil("one again", () -> a.has.size() == 4, seen, a);
            Lab.check(a.taken.isEmpty(), a.taken + " were taken when the other went");
            lab.send(topic, 4, 200);
            turnUntil("all read", () -> seen.size() == 600, seen, a);
        }
    }

    private void staticMember() throws Exception {
        String topic = lab.topic(4);
        String group = lab.name("group");
        Set<String> seen = new HashSet<>();
        try (Member b = new Member(lab.consumer(group, "group.instance.id", "two"), topic)) {
            Set<Integer> before;
            int disturbed;
            try (Member a = new Member(lab.consumer(group, "group.instance.id", "one"), topic)) {
                turnUntil("both", () -> a.has.size() == 2 && b.has.size() == 2, seen, a, b);
                before = new TreeSet<>(a.has);
                disturbed = b.given;
            }
            try (Member again = new Member(lab.consumer(group, "group.instance.id", "one"), topic)) {
                turnUntil("it is back", () -> again.has.size() == 2, seen, again, b);
                Lab.check(again.has.equals(before), before + " became " + again.has);
                Lab.check(b.given == disturbed, "the other member was disturbed");
            }
        }
    }

    private void fenced() throws Exception {
        String topic = lab.topic(2);
        String group = lab.name("group");
        Set<String> seen = new HashSet<>();
        try (Member first = new Member(lab.consumer(group, "group.instance.id", "one"), topic)) {
            turnUntil("the first", () -> first.has.size() == 2, seen, first);
            try (Member second = new Member(lab.consumer(group, "group.instance.id", "one"), topic)) {
                turnUntil("the second", () -> second.has.size() == 2, seen, second);
                Lab.fails(FencedInstanceIdException.class, () -> turnUntil("the end", () -> false, seen, first));
            }
        }
    }

    private void commit() throws Exception {
        String topic = lab.topic(1);
        String group = lab.name("group");
        lab.send(topic, 1, 100);
        var partition = Lab.at(topic, 0);
        try (var first = lab.consumer(group, "max.poll.records", "40")) {
            first.subscribe(List.of(topic));
            Lab.read(first, 40);
            first.commitSync(Map.of(partition, new OffsetAndMetadata(40, "a note")));
            var committed = first.committed(Set.of(partition)).get(partition);
            Lab.check(committed.offset() == 40 && committed.metadata().equals("a note"), "committed " + committed);
        }
        List<Long> offsets = new ArrayList<>();
        try (var second = lab.consumer(group)) {
            second.subscribe(List.of(topic));
            Lab.read(second, 60).forEach(r -> offsets.add(r.offset()));
        }
        Lab.check(offsets.get(0) == 40, "resumed at " + offsets.get(0));
    }
}
