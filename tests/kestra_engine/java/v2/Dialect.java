import io.kestra.core.executor.command.ExecutionCommand;
import io.kestra.core.executor.command.Resume;
import io.kestra.core.models.executions.Execution;
import io.kestra.core.models.executions.LogEntry;
import io.kestra.core.models.flows.Flow;
import io.kestra.core.queues.DispatchQueueInterface;
import io.kestra.core.repositories.LogDataStoreInterface;
import io.kestra.core.services.ExecutionOutputService;
import io.kestra.plugin.core.flow.Pause;
import io.micronaut.context.ApplicationContext;
import io.micronaut.core.type.Argument;
import java.net.ServerSocket;
import java.util.List;
import java.util.Map;
import org.slf4j.event.Level;

/** What only Kestra 2.x does this way, inside and in its URLs. */
final class Dialect {
    static final String RESUME = "actions/resume";
    static final int RESUMED = 200;
    static final boolean OUTPUTS_ARE_IN_EXECUTIONS = false;

    private final ApplicationContext context;
    private final DispatchQueueInterface<Execution> executions;
    private final DispatchQueueInterface<ExecutionCommand> commands;

    Dialect(ApplicationContext context) {
        this.context = context;
        this.executions = context.getBean(Argument.of(DispatchQueueInterface.class, Execution.class));
        this.commands = context.getBean(Argument.of(DispatchQueueInterface.class, ExecutionCommand.class));
    }

    /** Its worker talks to its controller over TCP, also in one process. */
    static Map<String, Object> properties() throws Exception {
        int port;
        try (ServerSocket probe = new ServerSocket(0)) {
            port = probe.getLocalPort();
        }
        return Map.of(
            "kestra.controller.port", port,
            "kestra.worker.controllers.type", "STATIC",
            "kestra.worker.controllers.static.endpoints", List.of(Map.of("host", "127.0.0.1", "port", port)));
    }

    void create(Execution execution) throws Exception {
        executions.emit(execution);
    }

    void resume(Execution execution, Flow flow, Map<String, Object> inputs) throws Exception {
        commands.emit(Resume.from(execution, Pause.Resumed.now(), inputs));
    }

    Map<String, Object> outputs(Execution execution) throws Exception {
        return context.getBean(ExecutionOutputService.class).getOutputs(execution);
    }

    List<LogEntry> logs(String tenant, String executionId) {
        return context.getBean(LogDataStoreInterface.class).findByExecutionId(tenant, executionId, Level.WARN);
    }
}
