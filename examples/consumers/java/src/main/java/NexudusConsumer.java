import static java.nio.charset.StandardCharsets.UTF_8;

import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour. */
public final class NexudusConsumer {
    private static final Logger LOG = LoggerFactory.getLogger(NexudusConsumer.class);
    private static final int ATTEMPTS = 5, CONSTRAINT_VIOLATION = 19;
    private static final String TOPICS = "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete";
    private static final String DEAD_LETTER_TOPIC = setting("DEAD_LETTER_TOPIC", "nexudus-records.dead-letters");

    private static volatile boolean stopping;
    private static volatile int status = 1; // 0 once everything is committed

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    public static void main(String[] arguments) throws Exception {
        var main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // SIGTERM
            stopping = true;
            try {
                main.join();
            } catch (InterruptedException ignored) { // ends at once
            }
            Runtime.getRuntime().halt(status); // the JVM's own status would be 143
        }));
        var brokers = setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092");
        var logEvery = Duration.ofSeconds(Long.parseLong(setting("LOG_SECONDS", "10")));
        var bytes = new ByteArrayDeserializer();
        var records = new Records(setting("DATABASE", "records.db"));
        var producer = new KafkaProducer<>(Map.of("bootstrap.servers", brokers, "acks", "all"),
                new ByteArraySerializer(), new ByteArraySerializer());
        // Each poll, each rebalance and close() commit the messages of the polls before, never those of the current one.
        var consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", brokers,
                "group.id", setting("KAFKA_GROUP", "nexudus-records"), "auto.offset.reset", "earliest",
                "auto.commit.interval.ms", 1_000, "session.timeout.ms", 10_000, "max.poll.records", 100), bytes, bytes);
        consumer.subscribe(List.of(setting("KAFKA_TOPICS", TOPICS).split(",")));
        long applied = 0, duplicates = 0, deadLetters = 0;
        var nextLog = Instant.now();
        while (!stopping) {
            if (Instant.now().isAfter(nextLog)) {
                nextLog = Instant.now().plus(logEvery);
                var lag = consumer.assignment().stream().mapToLong(p -> consumer.currentLag(p).orElse(0)).sum();
                LOG.info("progress applied={} duplicates={} dead_letters={} lag={}", applied, duplicates, deadLetters, lag);
            }
            for (var message : consumer.poll(Duration.ofMillis(500))) { // an exception ends the program without a commit
                try {
                    if (apply(records, Records.parse(message))) applied++;
                    else duplicates++;
                } catch (Records.Rejected reason) {
                    deadLetter(producer, message, reason);
                    deadLetters++;
                }
            }
        }
        consumer.close(); // commits and leaves the group
        LOG.info("stopped applied={} duplicates={} dead_letters={}", applied, duplicates, deadLetters);
        status = 0;
    }

    private static boolean apply(Records records, Records.Change change) throws Exception {
        for (int attempt = 1; ; attempt++) {
            try {
                return records.apply(change);
            } catch (SQLException error) {
                boolean refused = (error.getErrorCode() & 0xff) == CONSTRAINT_VIOLATION;
                if (attempt < ATTEMPTS) Thread.sleep(50L << attempt);
                else if (refused) throw new Records.Rejected("refused_by_database", error.getMessage());
                else throw error; // the database is out of order
            }
        }
    }

    /** Publishes a copy with its headers, the reason and the position, and waits for the acknowledgement. */
    private static void deadLetter(KafkaProducer<byte[], byte[]> producer, ConsumerRecord<byte[], byte[]> message,
            Records.Rejected reason) throws Exception {
        var position = "%s/%d/%d".formatted(message.topic(), message.partition(), message.offset());
        LOG.warn("dead letter: {}: {}: {}", position, reason.cause, reason.getMessage());
        var letter = new ProducerRecord<>(DEAD_LETTER_TOPIC, null, message.key(), message.value(), message.headers());
        Map.of("cause", reason.cause, "detail", reason.getMessage(), "position", position)
                .forEach((name, value) -> letter.headers().add("dead-letter-" + name, value.getBytes(UTF_8)));
        producer.send(letter).get();
    }
}
