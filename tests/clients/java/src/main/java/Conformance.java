import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * What a log must do for the Java client. Prints one line for each case: {@code ok NAME} or {@code failed NAME: WHY}.
 *
 * <p>Arguments: the bootstrap address, and the home it belongs to: {@code embedded} or {@code kafka}.
 */
public final class Conformance {
    /** Cases at a time: most of them wait most of their time. */
    private static final int AT_ONCE = 6;

    private static final int HANGS_AFTER_SECONDS = 120;

    /** A thing to do that fails by throwing. */
    interface Body {
        void run() throws Exception;
    }

    record Case(String name, Body body) {}

    private Conformance() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 2) {
            System.err.println("usage: Conformance BOOTSTRAP embedded|kafka");
            System.exit(64);
        }
        Lab lab = new Lab(arguments[0]);
        List<Case> cases = new ArrayList<>();
        cases.addAll(new Groups(lab).cases());
        cases.addAll(new Records(lab).cases());
        cases.addAll(new Topics(lab).cases());
        cases.addAll(new Limits(lab, arguments[1].equals("kafka")).cases());
        ExecutorService pool = Executors.newFixedThreadPool(AT_ONCE);
        List<Future<?>> running = new ArrayList<>();
        for (Case one : cases) {
            running.add(pool.submit(() -> run(one)));
        }
        for (Future<?> one : running) {
            try {
                one.get(HANGS_AFTER_SECONDS, TimeUnit.SECONDS);
            } catch (TimeoutException hangs) {
                // Nothing is said of it, which is how it fails.
                break;
            }
        }
        System.exit(0);
    }

    private static void run(Case one) {
        String line;
        try {
            one.body().run();
            line = "ok " + one.name();
        } catch (Throwable failure) {
            StackTraceElement[] trace = failure.getStackTrace();
            String at = trace.length == 0 ? "" : " at " + trace[0];
            line = "failed " + one.name() + ": " + failure.toString().replace('\n', ' ') + at;
        }
        synchronized (System.out) {
            System.out.println(line);
            System.out.flush();
        }
    }
}
