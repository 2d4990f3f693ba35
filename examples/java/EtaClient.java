import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Asks a Triton that serves pickup_eta, over JSON in HTTP and without libraries: docs/protocol.md in Java 17.
 *
 * <p>javac -d build EtaClient.java
 * <p>java -cp build EtaClient http://127.0.0.1:8000 REQUEST_ID requested_at=SECONDS COLUMN=VALUE ...
 */
public final class EtaClient {
    /** Seconds from the request to the pickup, and the version that said so. */
    public record Answer(double p10Seconds, double p50Seconds, double p90Seconds, long version) {}

    /** What the server says of how to ask; read again after PLAN_LASTS. */
    private record Plan(
            List<String> numeric, List<String> categorical, String requestedAt, long stable, Long canary,
            double canaryPercent, Instant readAt) {
        /** The same version for the same id, as long as the plan holds. */
        long versionFor(String requestId) {
            if (canary == null) {
                return stable;
            }
            long number = ByteBuffer.wrap(sha256(canary + ":" + requestId)).getInt() & 0xffffffffL;
            return number < canaryPercent / 100 * 4294967296.0 ? canary : stable;
        }
    }

    private static final Duration PLAN_LASTS = Duration.ofSeconds(5);

    private final HttpClient http = HttpClient.newHttpClient();
    private final String model;
    private final Duration timeout;
    private volatile Plan plan;

    public EtaClient(String url, Duration timeout) throws IOException, InterruptedException {
        this.model = url + "/v2/models/pickup_eta";
        this.timeout = timeout;
        this.plan = readPlan();
    }

    /** A row by column name: numbers, texts, requested_at in whole epoch seconds; what is not there is missing. */
    public Answer predict(Map<String, ?> row, String requestId) throws IOException, InterruptedException {
        if (plan.readAt().plus(PLAN_LASTS).isBefore(Instant.now())) {
            plan = readPlan();
        }
        Plan now = plan;
        check(now, row);
        String body = "{\"inputs\": [" + numbers(now, row) + ", " + texts(now, row) + ", " + time(now, row) + "]}";
        try {
            return answer(now.versionFor(requestId), body);
        } catch (IOException error) {
            if (now.versionFor(requestId) == now.stable()) {
                throw error;
            }
            return answer(now.stable(), body);
        }
    }

    public static void main(String[] arguments) throws IOException, InterruptedException {
        Map<String, String> row = new LinkedHashMap<>();
        for (int place = 2; place < arguments.length; place++) {
            String[] parts = arguments[place].split("=", 2);
            row.put(parts[0], parts[1]);
        }
        Answer answer = new EtaClient(arguments[0], Duration.ofSeconds(5)).predict(row, arguments[1]);
        System.out.println(String.join(" ", String.valueOf(answer.version()), String.valueOf(answer.p10Seconds()),
                String.valueOf(answer.p50Seconds()), String.valueOf(answer.p90Seconds())));
    }

    private static void check(Plan plan, Map<String, ?> row) {
        for (String name : row.keySet()) {
            if (!plan.numeric().contains(name) && !plan.categorical().contains(name)
                    && !plan.requestedAt().equals(name)) {
                throw new IllegalArgumentException("the model has no column " + name);
            }
        }
    }

    private Answer answer(long version, String body) throws IOException, InterruptedException {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(model + "/versions/" + version + "/infer"));
        Map<?, ?> said = (Map<?, ?>) ask(request.POST(HttpRequest.BodyPublishers.ofString(body)));
        Map<?, ?> output = (Map<?, ?>) ((List<?>) said.get("outputs")).get(0);
        List<?> seconds = (List<?>) output.get("data");
        return new Answer((Double) seconds.get(0), (Double) seconds.get(1), (Double) seconds.get(2), version);
    }

    private Plan readPlan() throws IOException, InterruptedException {
        Map<?, ?> config = (Map<?, ?>) ask(HttpRequest.newBuilder(URI.create(model + "/config")).GET());
        Map<?, ?> parameters = (Map<?, ?>) config.get("parameters");
        Map<?, ?> schema = parameter(parameters, "schema");
        Map<?, ?> rollout = parameter(parameters, "rollout");
        Object canary = rollout.get("canary");
        return new Plan(
                columns(schema, "numeric"),
                columns(schema, "categorical"),
                columns(schema, "requested_at").get(0),
                ((Double) rollout.get("stable")).longValue(),
                canary == null ? null : ((Double) canary).longValue(),
                (Double) rollout.get("canary_percent"),
                Instant.now());
    }

    private Object ask(HttpRequest.Builder request) throws IOException, InterruptedException {
        HttpResponse<String> response =
                http.send(request.timeout(timeout).build(), HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() != 200) {
            throw new IOException("Triton answered " + response.statusCode() + ": " + response.body());
        }
        return new Json(response.body()).value();
    }

    private static Map<?, ?> parameter(Map<?, ?> parameters, String name) {
        return (Map<?, ?>) new Json((String) ((Map<?, ?>) parameters.get(name)).get("string_value")).value();
    }

    private static List<String> columns(Map<?, ?> schema, String role) {
        List<String> names = new ArrayList<>();
        for (Object column : (List<?>) schema.get("columns")) {
            if (role.equals(((Map<?, ?>) column).get("role"))) {
                names.add((String) ((Map<?, ?>) column).get("name"));
            }
        }
        return names;
    }

    private static String numbers(Plan plan, Map<String, ?> row) {
        List<String> values = new ArrayList<>();
        for (String name : plan.numeric()) {
            Object value = row.get(name);
            // "NaN" where it is missing, which is no JSON, but Triton reads it
            values.add(String.valueOf(value == null ? Double.NaN : Double.parseDouble(value.toString())));
        }
        return tensor("numeric", "FP32", values);
    }

    private static String texts(Plan plan, Map<String, ?> row) {
        List<String> values = new ArrayList<>();
        for (String name : plan.categorical()) {
            Object value = row.get(name);
            values.add(quoted(value == null ? "" : value.toString()));
        }
        return tensor("categorical", "BYTES", values);
    }

    private static String time(Plan plan, Map<String, ?> row) {
        Object seconds = row.get(plan.requestedAt());
        if (seconds == null) {
            throw new IllegalArgumentException(plan.requestedAt() + " must be given, in epoch seconds");
        }
        return tensor("requested_at", "INT64", List.of(String.valueOf(Long.parseLong(seconds.toString()))));
    }

    private static String tensor(String name, String type, List<String> values) {
        return "{\"name\": \"" + name + "\", \"datatype\": \"" + type + "\", \"shape\": [1, " + values.size()
                + "], \"data\": [" + String.join(", ", values) + "]}";
    }

    private static String quoted(String text) {
        StringBuilder written = new StringBuilder("\"");
        for (char letter : text.toCharArray()) {
            boolean plain = letter >= ' ' && letter != '"' && letter != '\\';
            written.append(plain ? String.valueOf(letter) : String.format("\\u%04x", (int) letter));
        }
        return written.append('"').toString();
    }

    private static byte[] sha256(String text) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
    }

    /** As much of JSON as Triton writes: Map, List, String, Double, Boolean or null. */
    private static final class Json {
        private final String text;
        private int at;

        Json(String text) {
            this.text = text;
        }

        Object value() {
            char first = next();
            if (first == '{') {
                Map<String, Object> entries = new LinkedHashMap<>();
                for (at++; next() != '}'; skip(',', false)) {
                    String name = (String) value();
                    skip(':', true);
                    entries.put(name, value());
                }
                at++;
                return entries;
            }
            if (first == '[') {
                List<Object> values = new ArrayList<>();
                for (at++; next() != ']'; skip(',', false)) {
                    values.add(value());
                }
                at++;
                return values;
            }
            return first == '"' ? string() : word();
        }

        private char next() {
            while (Character.isWhitespace(text.charAt(at))) {
                at++;
            }
            return text.charAt(at);
        }

        private void skip(char wanted, boolean isNeeded) {
            if (next() == wanted) {
                at++;
            } else if (isNeeded) {
                throw new IllegalArgumentException("expected " + wanted + " at " + at + " of " + text);
            }
        }

        private String string() {
            StringBuilder read = new StringBuilder();
            for (at++; text.charAt(at) != '"'; at++) {
                char letter = text.charAt(at);
                if (letter == '\\') {
                    letter = text.charAt(++at);
                    int place = "bfnrt".indexOf(letter);
                    if (letter == 'u') {
                        letter = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                        at += 4;
                    } else if (place >= 0) {
                        letter = "\b\f\n\r\t".charAt(place);
                    }
                }
                read.append(letter);
            }
            at++;
            return read.toString();
        }

        private Object word() {
            int start = at;
            while (at < text.length() && ",]} \n\r\t".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            String word = text.substring(start, at);
            return switch (word) {
                case "null" -> null;
                case "true", "false" -> Boolean.valueOf(word);
                default -> Double.valueOf(word);
            };
        }
    }
}
