import com.sun.net.httpserver.HttpExchange;
import io.kestra.core.http.HttpRequest;
import io.kestra.core.http.HttpResponse;
import io.kestra.core.models.flows.Flow;
import io.kestra.core.models.triggers.AbstractTrigger;
import io.kestra.core.repositories.FlowRepositoryInterface;
import io.kestra.core.services.WebhookService;
import io.kestra.plugin.core.trigger.AbstractWebhookTrigger;
import io.kestra.plugin.core.trigger.WebhookContext;
import io.micronaut.context.ApplicationContext;
import java.net.http.HttpHeaders;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The route of webhook triggers. It needs no account: the key in its path is the proof. */
final class Webhooks {
    private static final Duration LONGEST = Duration.ofSeconds(20);
    private static final Pattern ROUTE = Pattern.compile(
        "/api/v1/" + Rest.TENANT + "/executions/webhook/([^/]+)/([^/]+)/([^/]+)");

    private final FlowRepositoryInterface flows;
    private final WebhookService service;

    Webhooks(ApplicationContext context) {
        this.flows = context.getBean(FlowRepositoryInterface.class);
        this.service = context.getBean(WebhookService.class);
    }

    static boolean isFor(String path) {
        return ROUTE.matcher(path).matches();
    }

    /** The trigger's own answer; null where no flow has a trigger with that key. */
    HttpResponse<?> start(HttpExchange exchange, byte[] body) throws Exception {
        Matcher found = ROUTE.matcher(exchange.getRequestURI().getPath());
        if (!found.matches()) {
            return null;
        }
        Flow flow = flows.findById(Rest.TENANT, found.group(1), found.group(2)).orElse(null);
        AbstractWebhookTrigger trigger = flow == null ? null : triggerOf(flow, found.group(3));
        if (trigger == null) {
            return null;
        }
        HttpRequest request = HttpRequest.builder()
            .method(exchange.getRequestMethod())
            .uri(exchange.getRequestURI())
            .headers(HttpHeaders.of(exchange.getRequestHeaders(), (name, value) -> true))
            .body(HttpRequest.StringRequestBody.builder()
                .charset(StandardCharsets.UTF_8)
                .content(new String(body, StandardCharsets.UTF_8))
                .build())
            .build();
        WebhookContext context = WebhookContext.builder()
            .request(request).flow(flow).trigger(trigger).webhookService(service).build();
        return trigger.evaluate(context).block(LONGEST);
    }

    private AbstractWebhookTrigger triggerOf(Flow flow, String key) throws Exception {
        List<AbstractTrigger> triggers = flow.getTriggers() == null ? List.of() : flow.getTriggers();
        for (AbstractTrigger one : triggers) {
            if (one instanceof AbstractWebhookTrigger webhook
                && key.equals(service.runContext(flow, webhook).render(webhook.getKey()))) {
                return webhook;
            }
        }
        return null;
    }
}
