import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.cloudevents.kafka.KafkaMessageFactory;
import java.io.IOException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** The work itself: from an event to a row. Replace this file with your own. */
final class Records {
    private static final String UPSERT = """
            INSERT INTO records (entity, id, updated_on, json) VALUES (?, ?, ?, ?)
            ON CONFLICT (entity, id) DO UPDATE SET updated_on = excluded.updated_on, json = excluded.json
            WHERE records.json IS NOT NULL AND (excluded.json IS NULL OR excluded.updated_on >= records.updated_on)""";
    private static final Pattern TYPE = Pattern.compile("com\\.nexudus\\.(\\w+)(Create|Update|Delete)d?");
    private static final Pattern TIME = Pattern.compile("(.{19})(?:\\.(\\d*))?Z");
    private static final ObjectMapper JSON = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    private final Connection db;

    /** A create or an update; a delete has neither time nor JSON. */
    record Change(String ceId, String entity, long id, String updatedOn, String json) {}

    /** The reason for a dead letter. */
    static final class Rejected extends Exception {
        final String cause;

        Rejected(String cause, String detail) {
            super(detail);
            this.cause = cause;
        }
    }

    Records(String file) throws IOException, SQLException {
        db = DriverManager.getConnection("jdbc:sqlite:" + file);
        try (var schema = Records.class.getResourceAsStream("schema.sql"); var statement = db.createStatement()) {
            statement.executeUpdate(new String(schema.readAllBytes(), UTF_8));
        }
    }

    static Change parse(ConsumerRecord<byte[], byte[]> message) throws Rejected {
        try {
            var event = KafkaMessageFactory.createReader(message).toEvent(); // checks the required attributes
            var kind = TYPE.matcher(event.getType());
            var at = TIME.matcher(new String(message.headers().lastHeader("ce_time").value(), UTF_8));
            if (!kind.matches() || !at.matches()) throw new IllegalArgumentException();
            var id = recordId(message.value());
            if (kind.group(2).equals("Delete")) return new Change(event.getId(), kind.group(1), id, null, null);
            // Nine digits behind the second: text order is time order.
            var fraction = (at.group(2) == null ? "" : at.group(2)) + "000000000";
            var updatedOn = at.group(1) + "." + fraction.substring(0, 9) + "Z";
            return new Change(event.getId(), kind.group(1), id, updatedOn, new String(message.value(), UTF_8));
        } catch (RuntimeException error) {
            throw new Rejected("invalid_event", "not a CloudEvent of a create, an update or a delete");
        }
    }

    private static long recordId(byte[] json) throws Rejected {
        try {
            var id = JSON.readTree(json).path("Id");
            if (id.isIntegralNumber() && id.canConvertToLong()) return id.longValue();
        } catch (IOException | RuntimeException invalid) { // its message would quote the record
        }
        throw new Rejected("invalid_record", "the value is not a JSON object with an integer Id");
    }

    /** Applies a change in one transaction. Returns false for a duplicate. */
    boolean apply(Change change) throws SQLException {
        run("BEGIN IMMEDIATE"); // with setAutoCommit(false) the driver would keep the lock between transactions
        try {
            boolean isNew = run("INSERT OR IGNORE INTO events (ce_id) VALUES (?)", change.ceId) == 1;
            if (isNew) run(UPSERT, change.entity, change.id, change.updatedOn, change.json);
            run("COMMIT");
            return isNew;
        } catch (SQLException error) {
            run("ROLLBACK");
            throw error;
        }
    }

    private int run(String sql, Object... values) throws SQLException {
        try (var statement = db.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
            return statement.executeUpdate();
        }
    }
}
