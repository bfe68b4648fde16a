// Prints tests/data/partitions.json: the partitions that Kafka's own Java producer chooses for a list of
// keys.
//
// The bridge promises the same choice, so that a topic may be written by it and by Java programs alike. To
// run this again (a JDK of version 17 or newer and Maven; from the project's root; for another Kafka, change
// pom.xml first):
//
//   java -Dfile.encoding=UTF-8 -cp "$(tests/support-kafka/jars target)/*" tests/support-kafka/Partitions.java > tests/data/partitions.json

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.StringJoiner;

import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

public class Partitions {
    private static final int[] COUNTS = {1, 2, 3, 6, 12, 50};

    public static void main(String[] arguments) {
        StringJoiner rows = new StringJoiner(",\n  ", "[\n  ", "\n]");
        for (String key : keys()) {
            byte[] bytes = key.getBytes(StandardCharsets.UTF_8);
            StringJoiner partitions = new StringJoiner(",", "{", "}");
            for (int count : COUNTS) {
                partitions.add("\"" + count + "\":" + BuiltInPartitioner.partitionForKey(bytes, count));
            }
            rows.add("{\"key\":\"" + escape(key) + "\",\"partitions\":" + partitions + "}");
        }
        new PrintStream(System.out, true, StandardCharsets.UTF_8).println(rows);
    }

    private static List<String> keys() {
        List<String> keys = new ArrayList<>();
        // Lengths of 0 to 9 bytes: every remainder of the hash's blocks of four.
        for (int length = 0; length < 10; length++) {
            keys.add("abcdefghij".substring(0, length));
        }
        // Nexudus ids are numbers; these are of the size that is given out today, and at the edges.
        for (long id = 1_999_000_000L; id < 1_999_000_016L; id++) {
            keys.add(Long.toString(id));
        }
        for (long id : new long[] {0, 1, 42, 1_414_898_372L, 1_999_999_999L, 2_147_483_647L, 2_147_483_648L, -1, Long.MAX_VALUE}) {
            keys.add(Long.toString(id));
        }
        keys.addAll(List.of(
            "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
            "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "{3f2504e0-4f89-41d3-9a0c-0305e82c3301}",
            "0192f0c1-7e3a-7b6c-8d21-5a9e4c1f2b30"));
        keys.addAll(List.of(
            "é", "ü", "ß", "Zoë", "Łódź", "Þórshöfn", "Москва", "Ελλάδα", "東京", "서울", "مرحبا", "😀", "👩‍🚀",
            "e\u0301", "\u00e9\u0000x", "\u0080", "\uffff"));
        keys.addAll(List.of(
            " ", "\t", "\"", "\\", "default:1999000001", "{\"Id\":1999000001}",
            "x".repeat(255), "0123456789".repeat(100), "ключ".repeat(64)));
        return keys;
    }

    private static String escape(String text) {
        StringBuilder escaped = new StringBuilder();
        for (char character : text.toCharArray()) {
            if (character == '"' || character == '\\') {
                escaped.append('\\').append(character);
            } else if (character < ' ' || (character >= 0x7f && character < 0xa0) || character == 0xffff) {
                escaped.append(String.format("\\u%04x", (int) character));
            } else {
                escaped.append(character);
            }
        }
        return escaped.toString();
    }
}
