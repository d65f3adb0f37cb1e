import io.kestra.core.models.executions.Execution;
import io.kestra.core.models.executions.LogEntry;
import io.kestra.core.models.flows.Flow;
import io.kestra.core.models.flows.State;
import io.kestra.core.queues.QueueFactoryInterface;
import io.kestra.core.queues.QueueInterface;
import io.kestra.core.repositories.LogRepositoryInterface;
import io.kestra.core.services.ExecutionService;
import io.kestra.plugin.core.flow.Pause;
import io.micronaut.context.ApplicationContext;
import io.micronaut.core.type.Argument;
import io.micronaut.inject.qualifiers.Qualifiers;
import java.util.List;
import java.util.Map;
import org.slf4j.event.Level;

/** What only Kestra 1.x does this way, inside and in its URLs. */
final class Dialect {
    static final String RESUME = "resume";
    static final int RESUMED = 204;
    static final boolean OUTPUTS_ARE_IN_EXECUTIONS = true;

    private final ApplicationContext context;
    private final QueueInterface<Execution> executions;

    Dialect(ApplicationContext context) {
        this.context = context;
        this.executions = context.getBean(
            Argument.of(QueueInterface.class, Execution.class), Qualifiers.byName(QueueFactoryInterface.EXECUTION_NAMED));
    }

    static Map<String, Object> properties() {
        return Map.of(
            "flyway.datasources.h2.enabled", true,
            "flyway.datasources.h2.locations", "classpath:migrations/h2",
            "flyway.datasources.h2.ignore-migration-patterns", "*:missing,*:future",
            "flyway.datasources.h2.out-of-order", true);
    }

    void create(Execution execution) throws Exception {
        executions.emit(execution);
    }

    void resume(Execution execution, Flow flow, Map<String, Object> inputs) throws Exception {
        ExecutionService service = context.getBean(ExecutionService.class);
        executions.emit(service.resume(execution, flow, State.Type.RUNNING, inputs, Pause.Resumed.now()));
    }

    Map<String, Object> outputs(Execution execution) {
        return execution.getOutputs();
    }

    List<LogEntry> logs(String tenant, String executionId) {
        return context.getBean(LogRepositoryInterface.class).findByExecutionId(tenant, executionId, Level.WARN);
    }
}
