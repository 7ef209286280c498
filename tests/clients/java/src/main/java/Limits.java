import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** What one home has and the other refuses: at once, and with the protocol's own error. */
final class Limits {
    private final Lab lab;
    private final boolean isKafka;

    Limits(Lab lab, boolean isKafka) {
        this.lab = lab;
        this.isKafka = isKafka;
    }

    List<Conformance.Case> cases() {
        var both = new Conformance.Case("share groups are refused", this::noShareGroups);
        return isKafka
                ? List.of(
                        both,
                        new Conformance.Case("transactions", this::transactions),
                        new Conformance.Case("groups of KIP-848", this::newGroups),
                        new Conformance.Case("ACLs can be switched on", () -> acls(SecurityDisabledException.class)))
                : List.of(
                        both,
                        new Conformance.Case("transactions are refused", this::noTransactions),
                        new Conformance.Case("groups of KIP-848 are refused", this::noNewGroups),
                        new Conformance.Case("ACLs are refused", () -> acls(UnsupportedVersionException.class)));
    }

    private void transactions() throws Exception {
        String topic = lab.topic(1);
        try (var producer = lab.producer("transactional.id", lab.name("transaction"))) {
            producer.initTransactions();
            for (boolean commits : new boolean[] {true, false}) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, Lab.bytes("k"), Lab.bytes("" + commits)));
                if (commits) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        try (var consumer = lab.consumer(lab.name("group"), "isolation.level", "read_committed")) {
            consumer.assign(List.of(Lab.at(topic, 0)));
            Lab.check(Lab.text(Lab.read(consumer, 1).get(0).value()).equals("true"), "the wrong one");
        }
    }

    private void noTransactions() throws Exception {
        Object[] settings = {"transactional.id", lab.name("transaction"), "max.block.ms", "60000"};
        try (var producer = lab.producer(settings)) {
            Lab.fails(org.apache.kafka.common.errors.TransactionalIdAuthorizationException.class,
                    producer::initTransactions);
        }
    }

    private void newGroups() throws Exception {
        String topic = lab.topic(1);
        lab.send(topic, 1, 1);
        try (var consumer = lab.consumer(lab.name("group"), "group.protocol", "consumer")) {
            consumer.subscribe(List.of(topic));
            Lab.read(consumer, 1);
        }
    }

    private void noNewGroups() throws Exception {
        String topic = lab.topic(1);
        try (var consumer = lab.consumer(lab.name("group"), "group.protocol", "consumer")) {
            consumer.subscribe(List.of(topic));
            Lab.fails(UnsupportedVersionException.class, () -> Lab.read(consumer, 1));
        }
    }

    private void noShareGroups() throws Exception {
        String topic = lab.topic(1);
        var settings = lab.settings("group.id", lab.name("group"));
        var bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaShareConsumer<>(settings, bytes, bytes)) {
            consumer.subscribe(List.of(topic));
            Lab.fails(UnsupportedVersionException.class, () ->
                    Lab.until("a refusal", () -> !consumer.poll(Lab.STEP).isEmpty()));
        }
    }

    private void acls(Class<? extends KafkaException> kind) throws Exception {
        try (var admin = lab.admin()) {
            Lab.fails(kind, () -> admin.describeAcls(AclBindingFilter.ANY).values().get(30, TimeUnit.SECONDS));
        }
    }
}
