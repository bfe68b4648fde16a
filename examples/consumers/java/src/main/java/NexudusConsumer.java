import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.cloudevents.CloudEvent;
import io.cloudevents.kafka.KafkaMessageFactory;
import java.io.IOException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour; start with apply for your own. */
public final class NexudusConsumer {
    private static final Logger LOG = LoggerFactory.getLogger(NexudusConsumer.class);
    private static final int ATTEMPTS = 5, CONSTRAINT_VIOLATION = 19;
    private static final String TOPICS = "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete";
    private static final ObjectMapper JSON = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);
    private static final String INSERT = "INSERT INTO changes (ce_id, entity, id, ce_time, json) VALUES (?, ?, ?, ?, ?)";

    private static volatile boolean stopping;
    private static volatile int status = 1; // 0 once everything is committed

    /** The reason for a dead letter: cause and detail. */
    private static final class Rejected extends Exception {
        private Rejected(String reason) {
            super(reason);
        }
    }

    /** Applies an event in one transaction and returns the name of the count. Skips signals, unknown actions and tombstones. */
    private static String apply(Connection db, JsonNode actions, ConsumerRecord<byte[], byte[]> message) throws Exception {
        if (message.value() == null) return "skipped";
        CloudEvent event;
        try {
            event = KafkaMessageFactory.createReader(message).toEvent(); // checks the attributes, but needs no time
            Objects.requireNonNull(event.getTime());
        } catch (RuntimeException error) {
            throw new Rejected("invalid_event: a required attribute of CloudEvents is missing or invalid");
        }
        var action = actions.path(event.getType());
        var kind = action.path("kind").asText("signal"); // as the actions that the list does not have
        if (kind.equals("signal")) return "skipped";
        JsonNode id = null;
        try {
            id = JSON.readTree(message.value()).get("Id");
        } catch (IOException invalid) {} // its message would quote the record
        if (id == null || !id.isIntegralNumber() || !id.canConvertToLong()) {
            throw new Rejected("invalid_record: the value is not a JSON object with an integer Id");
        }
        boolean isDelete = kind.equals("delete");
        try (var insert = db.prepareStatement(INSERT)) {
            insert.setString(1, event.getId());
            insert.setString(2, action.get("entity").asText());
            insert.setLong(3, id.longValue());
            insert.setString(4, isDelete ? null : new String(message.headers().lastHeader("ce_time").value(), UTF_8));
            insert.setString(5, isDelete ? null : new String(message.value(), UTF_8));
            return insert.executeUpdate() > 0 ? "applied" : "duplicates";
        }
    }

    private static String retry(Connection db, JsonNode actions, ConsumerRecord<byte[], byte[]> message) throws Exception {
        for (int attempt = 1; ; attempt++) {
            try {
                return apply(db, actions, message);
            } catch (SQLException error) {
                boolean isRefused = (error.getErrorCode() & 0xff) == CONSTRAINT_VIOLATION;
                if (attempt < ATTEMPTS) Thread.sleep(50L << attempt);
                else if (isRefused) throw new Rejected("refused_by_database: " + error.getMessage());
                else throw error; // the database is out of order
            }
        }
    }

    /** Publishes a copy with its headers, the reason and the position, and waits for the acknowledgement. */
    private static void deadLetter(KafkaProducer<byte[], byte[]> producer, ConsumerRecord<byte[], byte[]> message,
            String reason) throws Exception {
        var topic = setting("DEAD_LETTER_TOPIC", "nexudus-records.dead-letters");
        var position = "%s/%d/%d".formatted(message.topic(), message.partition(), message.offset());
        LOG.warn("dead letter: {}: {}", position, reason);
        var parts = reason.split(": ", 2);
        var letter = new ProducerRecord<>(topic, null, message.key(), message.value(), message.headers());
        Map.of("cause", parts[0], "detail", parts[1], "position", position)
                .forEach((name, value) -> letter.headers().add("dead-letter-" + name, value.getBytes(UTF_8)));
        producer.send(letter).get();
    }

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    public static void main(String[] arguments) throws Exception {
        var main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // SIGTERM
            stopping = true;
            try {
                main.join();
            } catch (InterruptedException ignored) {} // ends at once
            Runtime.getRuntime().halt(status); // the JVM's own status would be 143
        }));
        var actions = JSON.readTree(NexudusConsumer.class.getResource("actions.json")); // entity and kind by ce_type
        var db = DriverManager.getConnection("jdbc:sqlite:" + setting("DATABASE", "records.db"));
        try (var schema = NexudusConsumer.class.getResourceAsStream("schema.sql")) {
            db.createStatement().executeUpdate(new String(schema.readAllBytes(), UTF_8));
        }
        var brokers = setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092");
        var bytes = new ByteArrayDeserializer();
        var producer = new KafkaProducer<>(Map.of("bootstrap.servers", brokers, "acks", "all"),
                new ByteArraySerializer(), new ByteArraySerializer());
        // Each poll, each rebalance and close() commit the messages of the polls before, never those of the current one.
        var consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", brokers,
                "group.id", setting("KAFKA_GROUP", "nexudus-records"), "auto.offset.reset", "earliest",
                "auto.commit.interval.ms", 1_000, "session.timeout.ms", 10_000, "max.poll.records", 100), bytes, bytes);
        consumer.subscribe(List.of(setting("KAFKA_TOPICS", TOPICS).split(",")));
        var counts = new TreeMap<>(Map.of("applied", 0, "duplicates", 0, "skipped", 0, "dead_letters", 0));
        long nextLog = 0;
        while (!stopping) {
            if (System.currentTimeMillis() >= nextLog) {
                nextLog = System.currentTimeMillis() + 1_000 * Long.parseLong(setting("LOG_SECONDS", "10"));
                var lag = consumer.assignment().stream().mapToLong(p -> consumer.currentLag(p).orElse(0)).sum();
                LOG.info("progress {} lag={}", counts.toString().replaceAll("[{,}]", ""), lag);
            }
            for (var message : consumer.poll(Duration.ofMillis(500))) { // an exception ends the program without a commit
                String count = "dead_letters";
                try {
                    count = retry(db, actions, message);
                } catch (Rejected reason) {
                    deadLetter(producer, message, reason.getMessage());
                }
                counts.merge(count, 1, Integer::sum);
            }
        }
        consumer.close(); // commits and leaves the group
        LOG.info("stopped {}", counts.toString().replaceAll("[{,}]", ""));
        status = 0;
    }
}
