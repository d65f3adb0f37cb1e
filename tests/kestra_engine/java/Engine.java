import io.kestra.core.repositories.LocalFlowRepositoryLoader;
import io.kestra.core.runners.TestRunner;
import io.micronaut.context.ApplicationContext;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/**
 * Kestra's own executor, worker and scheduler in one process, with the few REST routes that a client of executions needs.
 *
 * <p>Arguments: the version, a folder to work in, a folder of flows, the number of worker threads. Prints {@code READY
 * <port>} when it serves; ends when its standard input does, so that it never outlives the tests.
 */
public final class Engine {
    private Engine() {
    }

    public static void main(String[] arguments) throws Exception {
        String version = arguments[0];
        Path folder = Path.of(arguments[1]);
        Path flows = Path.of(arguments[2]);
        ApplicationContext context = ApplicationContext.run(properties(folder), "test");
        TestRunner runner = context.getBean(TestRunner.class);
        runner.setWorkerThread(Integer.parseInt(arguments[3]));
        runner.run();
        context.getBean(LocalFlowRepositoryLoader.class).load(Rest.TENANT, flows.toFile());
        Rest rest = new Rest(context, version, Files.createDirectories(folder.resolve("added")));
        System.out.println("READY " + rest.start());
        System.in.transferTo(java.io.OutputStream.nullOutputStream());
        Runtime.getRuntime().halt(0);
    }

    /** What the server's own application.yml sets, for a database in memory and without telling anybody. */
    private static Map<String, Object> properties(Path folder) throws Exception {
        Map<String, Object> all = new HashMap<>();
        all.put("kestra.queue.type", "h2");
        all.put("kestra.repository.type", "h2");
        all.put("kestra.server-type", "STANDALONE");
        all.put("kestra.anonymous-usage-report.enabled", false);
        all.put("kestra.storage.type", "local");
        all.put("kestra.storage.local.base-path", Files.createDirectories(folder.resolve("storage")).toString());
        all.put("micronaut.server.port", -1);
        all.put("datasources.h2.url", "jdbc:h2:mem:k;TIME ZONE=UTC;DB_CLOSE_DELAY=-1;DB_CLOSE_ON_EXIT=FALSE");
        all.put("datasources.h2.username", "sa");
        all.put("datasources.h2.password", "");
        all.put("datasources.h2.driverClassName", "org.h2.Driver");
        all.put("kestra.jdbc.queues.min-poll-interval", "25ms");
        all.put("kestra.jdbc.queues.max-poll-interval", "1000ms");
        all.put("kestra.jdbc.queues.poll-switch-interval", "5s");
        all.put("kestra.jdbc.queues.message-protection.enabled", true);
        all.put("kestra.jdbc.queues.message-protection.limit", 1 << 20);
        all.put("kestra.jdbc.cleaner.initial-delay", "1h");
        all.put("kestra.jdbc.cleaner.fixed-delay", "1h");
        all.put("kestra.jdbc.cleaner.retention", "7d");
        all.put("kestra.server.service.purge.initial-delay", "1h");
        all.put("kestra.server.service.purge.fixed-delay", "1d");
        all.put("kestra.server.service.purge.retention", "30d");
        all.putAll(Dialect.properties());
        return all;
    }
}
