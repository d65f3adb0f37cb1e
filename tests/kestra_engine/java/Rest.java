import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import io.kestra.core.http.HttpResponse;
import io.kestra.core.models.Label;
import io.kestra.core.models.executions.Execution;
import io.kestra.core.models.flows.Flow;
import io.kestra.core.repositories.ExecutionRepositoryInterface;
import io.kestra.core.repositories.FlowRepositoryInterface;
import io.kestra.core.repositories.LocalFlowRepositoryLoader;
import io.kestra.core.runners.FlowInputOutput;
import io.kestra.core.serializers.JacksonMapper;
import io.micronaut.context.ApplicationContext;
import io.micronaut.data.model.Pageable;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The REST routes of Kestra's web server that this project uses, with its status codes; no more of it is on Maven Central. */
final class Rest {
    static final String TENANT = "main";
    private static final String BASE = "/api/v1/" + TENANT;
    private static final Pattern CREATE = Pattern.compile(BASE + "/executions/([^/]+)/([^/]+)");
    private static final String SEARCH = BASE + "/executions/search";
    private static final Pattern EXECUTION = Pattern.compile(BASE + "/executions/([^/]+)");
    private static final Pattern RESUME = Pattern.compile(BASE + "/executions/([^/]+)/" + Dialect.RESUME);
    private static final Pattern OUTPUTS = Pattern.compile(BASE + "/outputs/executions/([^/]+)");
    private static final Pattern LOGS = Pattern.compile(BASE + "/logs/([^/]+)");
    private static final Pattern FLOW = Pattern.compile(BASE + "/flows/([^/]+)/([^/]+)");

    private final ApplicationContext context;
    private final Dialect dialect;
    private final String version;
    private final Path added;
    private final ExecutionRepositoryInterface executions;
    private final FlowRepositoryInterface flows;
    private final Webhooks webhooks;

    Rest(ApplicationContext context, String version, Path added) {
        this.context = context;
        this.dialect = new Dialect(context);
        this.version = version;
        this.added = added;
        this.executions = context.getBean(ExecutionRepositoryInterface.class);
        this.flows = context.getBean(FlowRepositoryInterface.class);
        this.webhooks = new Webhooks(context);
    }

    int start() throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 128);
        server.setExecutor(Executors.newVirtualThreadPerTaskExecutor());
        server.createContext("/", this::answer);
        server.start();
        return server.getAddress().getPort();
    }

    private record Answer(int status, Object body) {
    }

    private static Answer refusal(int status, String message) {
        return new Answer(status, Map.of("message", message));
    }

    private void answer(HttpExchange exchange) throws IOException {
        Answer answer;
        try {
            byte[] body = exchange.getRequestBody().readAllBytes();
            boolean isWebhook = Webhooks.isFor(exchange.getRequestURI().getPath());
            answer = isWebhook ? webhook(exchange, body)
                : isAllowed(exchange) ? route(exchange, body) : refusal(401, "Unauthorized");
        } catch (IllegalArgumentException exc) {
            answer = refusal(422, String.valueOf(exc.getMessage()));
        } catch (Exception exc) {
            exc.printStackTrace();
            answer = refusal(500, exc.toString());
        }
        byte[] sent = answer.body() == null ? new byte[0] : JacksonMapper.ofJson().writeValueAsBytes(answer.body());
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(answer.status(), sent.length == 0 ? -1 : sent.length);
        exchange.getResponseBody().write(sent);
        exchange.close();
    }

    private boolean isAllowed(HttpExchange exchange) {
        String account = System.getenv("ENGINE_ACCOUNT");
        String proof = Base64.getEncoder().encodeToString(account.getBytes(StandardCharsets.UTF_8));
        return ("Basic " + proof).equals(exchange.getRequestHeaders().getFirst("Authorization"));
    }

    private Answer route(HttpExchange exchange, byte[] body) throws Exception {
        String path = exchange.getRequestURI().getPath();
        boolean isPost = exchange.getRequestMethod().equals("POST");
        Matcher found;
        if (isPost && path.equals(BASE + "/flows")) {
            return addFlow(body);
        }
        if (isPost && (found = RESUME.matcher(path)).matches()) {
            return resume(found.group(1), inputsOf(exchange, body));
        }
        if (isPost && (found = CREATE.matcher(path)).matches()) {
            return create(found.group(1), found.group(2), exchange, inputsOf(exchange, body));
        }
        if (isPost) {
            return refusal(404, "Page Not Found");
        }
        if (path.equals(SEARCH)) {
            return search(exchange.getRequestURI().getQuery());
        }
        return path.equals("/api/v1/configs") ? new Answer(200, Map.of("version", version)) : read(path);
    }

    private Answer webhook(HttpExchange exchange, byte[] body) throws Exception {
        HttpResponse<?> answer = webhooks.start(exchange, body);
        return answer == null ? refusal(404, "Not Found") : new Answer(answer.getStatus().getCode(), answer.getBody());
    }

    private Answer read(String path) throws Exception {
        Matcher found;
        if ((found = FLOW.matcher(path)).matches()) {
            Optional<Flow> flow = flows.findById(TENANT, found.group(1), found.group(2));
            return flow.isPresent() ? new Answer(200, Map.of("id", flow.get().getId())) : refusal(404, "Not Found");
        }
        if ((found = LOGS.matcher(path)).matches()) {
            return new Answer(200, dialect.logs(TENANT, found.group(1)));
        }
        if ((found = EXECUTION.matcher(path)).matches()) {
            Optional<Execution> execution = executions.findById(TENANT, found.group(1));
            return execution.isPresent() ? new Answer(200, execution.get()) : refusal(404, "Not Found");
        }
        if (!Dialect.OUTPUTS_ARE_IN_EXECUTIONS && (found = OUTPUTS.matcher(path)).matches()) {
            Optional<Execution> execution = executions.findById(TENANT, found.group(1));
            return execution.isPresent() ? new Answer(200, dialect.outputs(execution.get())) : refusal(404, "Not Found");
        }
        return refusal(404, "Page Not Found");
    }

    /** Query: {@code namespace=<namespace>&flowId=<id>}, and no more of what the real route takes. */
    private Answer search(String query) {
        String[] parts = query.split("[=&]");
        List<Execution> found = executions.findByFlowId(TENANT, parts[1], parts[3], Pageable.from(1, 1000));
        return new Answer(200, Map.of("results", found, "total", found.size()));
    }

    private Map<String, String> inputsOf(HttpExchange exchange, byte[] body) {
        return Multipart.read(exchange.getRequestHeaders().getFirst("Content-Type"), body);
    }

    private Answer create(String namespace, String id, HttpExchange exchange, Map<String, String> inputs) throws Exception {
        Optional<Flow> flow = flows.findById(TENANT, namespace, id);
        if (flow.isEmpty()) {
            return refusal(404, "Requested Flow is not found.");
        }
        FlowInputOutput reader = context.getBean(FlowInputOutput.class);
        Execution execution;
        try {
            execution = Execution.newExecution(
                flow.get(), (f, e) -> reader.readExecutionInputs(f, e, inputs), labelsOf(exchange), Optional.empty());
        } catch (RuntimeException exc) {
            return refusal(422, String.valueOf(exc.getMessage()));
        }
        dialect.create(execution);
        return new Answer(200, execution);
    }

    private static List<Label> labelsOf(HttpExchange exchange) {
        List<Label> labels = new ArrayList<>();
        String query = Optional.ofNullable(exchange.getRequestURI().getRawQuery()).orElse("");
        for (String pair : query.split("&")) {
            if (pair.startsWith("labels=")) {
                String[] label = URLDecoder.decode(pair.substring(7), StandardCharsets.UTF_8).split(":", 2);
                labels.add(new Label(label[0], label[1]));
            }
        }
        return labels;
    }

    private Answer resume(String id, Map<String, String> inputs) throws Exception {
        Optional<Execution> execution = executions.findById(TENANT, id);
        if (execution.isEmpty()) {
            return refusal(404, "Not Found");
        }
        if (!execution.get().getState().isPaused()) {
            return refusal(409, "Illegal state: Execution is not paused, can't resume it");
        }
        Flow flow = flows.findById(TENANT, execution.get().getNamespace(), execution.get().getFlowId()).orElseThrow();
        dialect.resume(execution.get(), flow, Map.copyOf(inputs));
        return new Answer(Dialect.RESUMED, Dialect.RESUMED == 204 ? null : execution.get());
    }

    private Answer addFlow(byte[] source) throws Exception {
        Path folder = Files.createTempDirectory(added, "flow");
        Files.write(folder.resolve("flow.yaml"), source);
        context.getBean(LocalFlowRepositoryLoader.class).load(TENANT, folder.toFile());
        return new Answer(200, Map.of());
    }
}
