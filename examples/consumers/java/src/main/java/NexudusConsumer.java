import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Keeps the newest state of Nexudus records in SQLite. ../README.md describes the behaviour. */
public final class NexudusConsumer {
    private static final Logger LOG = LoggerFactory.getLogger(NexudusConsumer.class);
    private static final int ATTEMPTS = 5;
    private static final int CONSTRAINT_VIOLATION = 19;
    private static final String TOPICS = "nexudus.BookingCreate,nexudus.BookingUpdate,nexudus.BookingDelete";

    private final String brokers = setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092");
    private final String deadLetterTopic = setting("DEAD_LETTER_TOPIC", "nexudus-records.dead-letters");
    private final Duration logEvery = Duration.ofSeconds(Long.parseLong(setting("LOG_SECONDS", "10")));
    private final Records records = new Records(setting("DATABASE", "records.db"));
    private final KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(Map.of(
            "bootstrap.servers", brokers,
            "group.id", setting("KAFKA_GROUP", "nexudus-records"),
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false,
            "session.timeout.ms", 10_000,
            "max.poll.records", 100), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    private final KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(
            Map.<String, Object>of("bootstrap.servers", brokers, "acks", "all"),
            new ByteArraySerializer(), new ByteArraySerializer());
    private volatile boolean stopping;
    private long applied, duplicates, deadLetters;

    private NexudusConsumer() throws SQLException {}

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    public static void main(String[] arguments) throws Exception {
        var service = new NexudusConsumer();
        var finished = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // SIGTERM
            service.stopping = true;
            service.consumer.wakeup();
            try {
                finished.await();
                Runtime.getRuntime().halt(0); // the JVM's own status would be 143
            } catch (InterruptedException ignored) {
                Thread.currentThread().interrupt();
            }
        }));
        try {
            service.run();
        } catch (Throwable failure) {
            LOG.error("failed", failure);
            Runtime.getRuntime().halt(1);
        }
        finished.countDown();
    }

    private void run() throws Exception {
        consumer.subscribe(List.of(setting("KAFKA_TOPICS", TOPICS).split(",")));
        var nextLog = Instant.now();
        while (!stopping) {
            if (Instant.now().isAfter(nextLog)) {
                var lag = consumer.assignment().stream().mapToLong(p -> consumer.currentLag(p).orElse(0)).sum();
                LOG.info("progress {} lag={}", counts(), lag);
                nextLog = Instant.now().plus(logEvery);
            }
            try {
                handle(consumer.poll(Duration.ofMillis(500)));
            } catch (WakeupException wakeup) {
                LOG.info("stopping");
            }
        }
        consumer.close(); // leaves the group
        producer.close();
        records.close();
        LOG.info("stopped {}", counts());
    }

    private String counts() {
        return "applied=%d duplicates=%d dead_letters=%d".formatted(applied, duplicates, deadLetters);
    }

    /** Applies messages, then commits their offsets. A rebalance happens inside poll only, never in between. */
    private void handle(Iterable<ConsumerRecord<byte[], byte[]>> messages) throws Exception {
        var offsets = new HashMap<TopicPartition, OffsetAndMetadata>();
        for (var message : messages) {
            if (stopping) {
                break;
            }
            try {
                if (apply(Records.parse(message))) {
                    applied++;
                } else {
                    duplicates++;
                }
            } catch (Records.Rejected reason) {
                deadLetter(message, reason);
                deadLetters++;
            }
            offsets.put(new TopicPartition(message.topic(), message.partition()), new OffsetAndMetadata(message.offset() + 1));
        }
        while (!offsets.isEmpty()) {
            try {
                consumer.commitSync(offsets);
                return;
            } catch (WakeupException stop) {
                LOG.info("stopping"); // once only: the second attempt commits
            } catch (CommitFailedException | RebalanceInProgressException | TimeoutException error) {
                LOG.warn("kafka: {}", error.getMessage()); // read again, and dropped as duplicates
                return;
            }
        }
    }

    private boolean apply(Records.Change change) throws Exception {
        for (int attempt = 1; ; attempt++) {
            try {
                return records.apply(change);
            } catch (SQLException error) {
                if (attempt < ATTEMPTS) {
                    Thread.sleep(50L << attempt);
                } else if ((error.getErrorCode() & 0xff) == CONSTRAINT_VIOLATION) {
                    throw new Records.Rejected("refused_by_database", error.getMessage());
                } else {
                    throw error; // the database is out of order
                }
            }
        }
    }

    /** Publishes a copy with its headers, the reason and the position, and waits for the acknowledgement. */
    private void deadLetter(ConsumerRecord<byte[], byte[]> message, Records.Rejected reason) throws Exception {
        var position = "%s/%d/%d".formatted(message.topic(), message.partition(), message.offset());
        LOG.warn("dead letter: {}: {}: {}", position, reason.cause, reason.getMessage());
        var letter = new ProducerRecord<>(deadLetterTopic, null, message.key(), message.value(), message.headers());
        Map.of("cause", reason.cause, "detail", reason.getMessage(), "position", position).forEach((name, value) ->
                letter.headers().add("dead-letter-" + name, value.getBytes(StandardCharsets.UTF_8)));
        producer.send(letter).get();
    }
}
