import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.cloudevents.CloudEvent;
import io.cloudevents.kafka.KafkaMessageFactory;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.sqlite.SQLiteConfig;

/** The work itself: from an event to a row. Replace this file with your own. */
final class Records implements AutoCloseable {
    private static final String EVENTS = """
            CREATE TABLE IF NOT EXISTS events (
                ce_id TEXT PRIMARY KEY, applied_on TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID""";
    private static final String RECORDS = """
            CREATE TABLE IF NOT EXISTS records (
                entity TEXT, id INTEGER, updated_on TEXT, deleted INTEGER NOT NULL, json TEXT,
                events INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (entity, id)) WITHOUT ROWID""";
    private static final String UPSERT = """
            INSERT INTO records (entity, id, updated_on, deleted, json) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (entity, id) DO UPDATE
            SET updated_on = excluded.updated_on, deleted = excluded.deleted, json = excluded.json
            WHERE NOT records.deleted AND (excluded.deleted OR excluded.updated_on >= records.updated_on)""";
    private static final String COUNT = "UPDATE records SET events = events + 1 WHERE entity = ? AND id = ?";
    private static final Pattern TYPE = Pattern.compile("com\\.nexudus\\.(\\w+)(Create|Update|Delete)d?");
    private static final Pattern TIME = Pattern.compile("(.{19})(?:\\.(\\d*))?Z");
    private static final ObjectMapper JSON = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    private final Connection db;

    record Change(String ceId, String entity, long id, boolean deleted, String updatedOn, String json) {}

    /** The reason for a dead letter. */
    static final class Rejected extends Exception {
        final String cause;

        Rejected(String cause, String detail) {
            super(detail);
            this.cause = cause;
        }
    }

    Records(String file) throws SQLException {
        var config = new SQLiteConfig();
        config.setBusyTimeout(10_000);
        config.setJournalMode(SQLiteConfig.JournalMode.WAL);
        config.setSynchronous(SQLiteConfig.SynchronousMode.FULL);
        db = DriverManager.getConnection("jdbc:sqlite:" + file, config.toProperties());
        try (var statement = db.createStatement()) {
            statement.execute(EVENTS);
            statement.execute(RECORDS);
        }
    }

    static Change parse(ConsumerRecord<byte[], byte[]> message) throws Rejected {
        CloudEvent event;
        String time;
        try {
            event = KafkaMessageFactory.createReader(message).toEvent(); // checks the required attributes
            // As it came: equal instants may have different digits.
            time = new String(message.headers().lastHeader("ce_time").value(), StandardCharsets.UTF_8);
        } catch (RuntimeException error) {
            throw new Rejected("invalid_event", "not a CloudEvent of a create, an update or a delete");
        }
        var kind = TYPE.matcher(event.getType());
        var at = TIME.matcher(time);
        if (!kind.matches() || !at.matches()) {
            throw new Rejected("invalid_event", "not a CloudEvent of a create, an update or a delete");
        }
        JsonNode id = null;
        try {
            id = JSON.readTree(message.value()).get("Id");
        } catch (Exception invalid) { // its message would quote the record
        }
        if (id == null || !id.isIntegralNumber() || !id.canConvertToLong()) {
            throw new Rejected("invalid_record", "the value is not a JSON object with an integer Id");
        }
        // Nine digits behind the second: text order is time order.
        var fraction = (at.group(2) == null ? "" : at.group(2)) + "000000000";
        var updatedOn = at.group(1) + "." + fraction.substring(0, 9) + "Z";
        var json = new String(message.value(), StandardCharsets.UTF_8);
        return new Change(event.getId(), kind.group(1), id.longValue(), kind.group(2).equals("Delete"), updatedOn, json);
    }

    /** Applies a change in one transaction. Returns false for a duplicate. */
    boolean apply(Change change) throws SQLException {
        run("BEGIN IMMEDIATE"); // with setAutoCommit(false) the driver would keep the lock between transactions
        try {
            boolean isNew = run("INSERT OR IGNORE INTO events (ce_id) VALUES (?)", change.ceId) == 1;
            if (isNew) {
                var newest = change.deleted ? null : change;
                run(UPSERT, change.entity, change.id, newest == null ? null : newest.updatedOn, change.deleted,
                        newest == null ? null : newest.json);
                run(COUNT, change.entity, change.id);
            }
            run("COMMIT");
            return isNew;
        } catch (SQLException error) {
            run("ROLLBACK");
            throw error;
        }
    }

    private int run(String sql, Object... values) throws SQLException {
        try (var statement = db.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) {
                statement.setObject(i + 1, values[i]);
            }
            return statement.executeUpdate();
        }
    }

    @Override
    public void close() throws SQLException {
        db.close();
    }
}
