import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Administration. */
final class Topics {
    private final Lab lab;

    Topics(Lab lab) {
        this.lab = lab;
    }

    List<Conformance.Case> cases() {
        return List.of(
                new Conformance.Case("topics are made, described, altered and grown", this::topics),
                new Conformance.Case("a topic is deleted", this::delete),
                new Conformance.Case("records are deleted up to an offset", this::records),
                new Conformance.Case("groups are listed, described and deleted", this::groups));
    }

    private static ConfigEntry setting(Admin admin, ConfigResource resource, String name) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name);
    }

    private static void alter(Admin admin, ConfigResource resource, String name, String value) throws Exception {
        var change = new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
    }

    private void topics() throws Exception {
        String topic = lab.topic(2, "retention.ms", "3600000");
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        try (Admin admin = lab.admin()) {
            var again = List.of(new NewTopic(topic, 2, (short) 1));
            Lab.fails(TopicExistsException.class, () -> admin.createTopics(again).all().get());
            Lab.check(admin.listTopics().names().get().contains(topic), "it is not listed");
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            Lab.check(described.partitions().size() == 2 && described.topicId() != null, "" + described);
            Lab.check(setting(admin, resource, "retention.ms").value().equals("3600000"), "its own setting");
            Lab.check(setting(admin, resource, "cleanup.policy").isDefault(), "a default is not called one");
            alter(admin, resource, "segment.ms", "60000");
            Lab.until("the new value", () -> setting(admin, resource, "segment.ms").value().equals("60000"));
            Lab.check(setting(admin, resource, "retention.ms").value().equals("3600000"), "the other one is gone");
            Lab.fails(InvalidConfigurationException.class, () -> alter(admin, resource, "retention.ms", "soon"));
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
            lab.awaitPartitions(admin, topic, 5);
            Lab.fails(InvalidPartitionsException.class, () ->
                    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get());
        }
    }

    private void delete() throws Exception {
        String topic = lab.topic(1);
        try (Admin admin = lab.admin()) {
            admin.deleteTopics(List.of(topic)).all().get();
            Lab.until("it is gone", () -> !admin.listTopics().names().get().contains(topic));
            Lab.fails(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(topic)).all().get());
            Lab.fails(UnknownTopicOrPartitionException.class, () ->
                    admin.describeTopics(List.of(topic)).allTopicNames().get());
        }
    }

    private void records() throws Exception {
        String topic = lab.topic(1);
        lab.send(topic, 1, 100, "batch.size", "500");
        var partition = Lab.at(topic, 0);
        try (Admin admin = lab.admin(); var consumer = lab.consumer(lab.name("group"))) {
            var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(45)));
            long low = deleted.lowWatermarks().get(partition).get().lowWatermark();
            Lab.check(low == 45, "the low watermark is " + low);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long first = Lab.read(consumer, 55).get(0).offset();
            Lab.check(first == 45, "the first is " + first);
            var beyond = Map.of(partition, RecordsToDelete.beforeOffset(101));
            Lab.fails(OffsetOutOfRangeException.class, () -> admin.deleteRecords(beyond).all().get());
        }
    }

    private void groups() throws Exception {
        String topic = lab.topic(2);
        String group = lab.name("group");
        var kept = Lab.at(topic, 0);
        var forgotten = Lab.at(topic, 1);
        lab.send(topic, 2, 2);
        try (Admin admin = lab.admin()) {
            try (var consumer = lab.consumer(group)) {
                consumer.subscribe(List.of(topic));
                Lab.read(consumer, 2);
                consumer.commitSync();
                var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                Lab.check(described.groupState().toString().equals("Stable"), "" + described);
                Lab.check(described.members().size() == 1, "" + described);
                Lab.fails(GroupSubscribedToTopicException.class, () ->
                        admin.deleteConsumerGroupOffsets(group, Set.of(forgotten)).all().get());
            }
            var listed = admin.listConsumerGroups().all().get();
            Lab.check(listed.stream().anyMatch(g -> g.groupId().equals(group)), "it is not listed");
            admin.deleteConsumerGroupOffsets(group, Set.of(forgotten)).all().get();
            var offsets = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            Lab.check(offsets.keySet().equals(Set.of(kept)), "offsets: " + offsets);
            Lab.check(offsets.get(kept).offset() == 1, "offsets: " + offsets);
            admin.deleteConsumerGroups(List.of(group)).all().get();
            var left = admin.listConsumerGroups().all().get();
            Lab.check(left.stream().noneMatch(g -> g.groupId().equals(group)), "it is still listed");
        }
    }
}
