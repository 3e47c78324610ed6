// Programs that attack: what shuts them in holds, what they use up is bounded, and nothing of them is left.
#include "sandbox_support.h"

#include "data/console.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

// Many programs wait rather than compute, so there are more workers than cores.
enum { WORKERS = 6 };

static kv_sandbox_options options(double seconds, bool processes) {
    kv_sandbox_options o = kv_sandbox_defaults();
    o.workers = WORKERS;
    o.limits.seconds = seconds;
    o.limits.processes = processes;
    o.limits.memory_bytes = (int64_t)128 << 20;
    o.limits.tmp_bytes = (int64_t)8 << 20;
    o.limits.file_bytes = (int64_t)4 << 20;
    return o;
}

// ---- Attacks and what becomes of them ------------------------------------------------------------------

struct attack {
    const char *name, *source;
    const char *expected; // beginning of the result where no processes can be started; NULL: fails somehow
    const char *with_processes; // the same where they can; "" : not tried
};

// These end by themselves, or by a limit other than time.
static const struct attack attacks[] = {
    {"fork bomb", "import os\nwhile True: os.fork()", "failed: PermissionError", NULL},
    {"patient fork bomb",
     "import os, time\n"
     "n = 0\n"
     "try:\n"
     "    while True:\n"
     "        if os.fork() == 0: time.sleep(100)\n"
     "        n += 1\n"
     "except OSError as fault:\n"
     "    assert n < 16, n\n"
     "    raise ValueError(fault.errno)",
     "failed: ValueError: 1", "failed: ValueError: 11"},
    {"thread bomb",
     "import threading, time\n"
     "threading.stack_size(1 << 16)\n"
     "while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
     "failed: RuntimeError: can't start new thread", "failed: RuntimeError: can't start new thread"},
    {"memory at once", "x = bytearray(10 ** 12)", "out of memory", "out of memory"},
    {"memory bit by bit", "x = []\nwhile True: x.append(bytearray(1 << 20))", "out of memory",
     "out of memory"},
    {"memory from the C library",
     "import mmap\nx = []\nwhile True:\n    x.append(mmap.mmap(-1, 1 << 20))\n    x[-1].write(b'x' * (1 << 20))",
     "failed: OSError: [Errno 12]", ""},
    {"output", "while True: print('x' * 1000)", "output flood", "output flood"},
    {"errors", "import sys\nwhile True: sys.stderr.write('x' * 1000)", "output flood", "output flood"},
    {"output of no lines", "import os\nwhile True: os.write(1, bytes(1 << 16))", "output flood",
     "output flood"},
    {"many descriptors", "x = []\nwhile True: x.append(open('/dev/null'))", "failed: OSError: [Errno 24]",
     "failed: OSError: [Errno 24]"},
    {"one large file", "x = open('/tmp/x', 'wb')\nwhile True: x.write(bytes(1 << 16))",
     "failed: OSError: [Errno 27]", ""},
    {"many files", "n = 0\nwhile True:\n    open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))\n    n += 1",
     "failed: OSError: [Errno 28]", ""},
    {"shared memory", "n = 0\nwhile True:\n    open(f'/dev/shm/{n}', 'wb').write(bytes(1 << 20))\n    n += 1",
     "failed: OSError: [Errno 28]", ""},
    {"leaves early", "import sys\nsys.exit(0)", "failed: ended before its tests did", ""},
    {"leaves early, roughly", "import os\nos._exit(0)", "failed: ended before its tests did", ""},
    {"becomes another program", "import os\nos.execv('/bin/true', ['true'])",
     "failed: ended before its tests did", ""},
    {"leaves with a status", "raise SystemExit(3)", "failed: exit status 3", ""},
    {"closes the result", "import os\nos.close(3)", "failed: OSError: [Errno 9]", ""},
    {"writes a result of its own", "import os\nos.write(3, b'passed')", "failed: wrote where", ""},
    {"guesses the word", "import os\nos.write(3, b'0' * 32)\nos._exit(0)",
     "failed: ended before its tests did", ""},
    {"floods the result", "import os\nwhile True: os.write(3, bytes(1 << 16))", "failed: wrote where", ""},
    {"makes the result unwritable",
     "import os, fcntl\nfcntl.fcntl(3, fcntl.F_SETFL, os.O_NONBLOCK)\nos.dup2(1, 3)", "failed: ended before",
     ""},
    {"waits for input", "assert input()", "failed: EOFError", ""},
    {"kills its parent", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nraise ValueError('on')",
     "failed: PermissionError", "failed: ValueError: on"},
    {"kills all", "import os, signal\nos.kill(-1, signal.SIGKILL)\nraise ValueError('on')",
     "failed: PermissionError", "failed: ProcessLookupError"},
    {"kills itself", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "failed: PermissionError",
     "killed by signal 9"},
    {"crashes", "import ctypes\nctypes.string_at(0)", "killed by signal 11", "killed by signal 11"},
    {"aborts", "import os\nos.abort()", "killed by signal 6", "killed by signal 6"},
    {"writes to the root", "open('/x', 'w')", "failed: OSError: [Errno 30]", ""},
    {"writes to /usr", "open('/usr/x', 'w')", "failed: OSError: [Errno 30]", ""},
    {"writes to /dev", "open('/dev/x', 'w')", "failed: OSError: [Errno 30]", ""},
    {"writes to /etc", "open('/etc/passwd', 'w')", "failed: OSError: [Errno 30]", ""},
    {"writes through a link", "import os\nos.symlink('/usr/x', '/tmp/x')\nopen('/tmp/x', 'w')",
     "failed: OSError: [Errno 30]", ""},
    {"removes a file of the system", "import os\nos.unlink('/usr/bin/env')", "failed: OSError: [Errno 30]",
     ""},
    {"sets the clock", "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)", "failed: PermissionError",
     ""},
    {"not a program", "def f(:", "failed: SyntaxError: invalid syntax", ""},
    {"cut off", "x = '''", "failed: SyntaxError: unterminated triple-quoted string", ""},
    {"a NUL as such", "x = chr(0) + '\\0'\nassert not x", "failed: AssertionError", ""},
    {"not UTF-8", "x = '\xFF'", "failed: SyntaxError", ""},
};
enum { N_ATTACKS = sizeof attacks / sizeof *attacks };

static void run_attacks(bool processes) {
    kv_sandbox_options o = options(60, processes);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    kv_program programs[N_ATTACKS];
    kv_run_result results[N_ATTACKS];
    const struct attack *tried[N_ATTACKS];
    int64_t n = 0;
    for (int i = 0; i < N_ATTACKS; i++) {
        const char *expected = processes ? attacks[i].with_processes : attacks[i].expected;
        if (expected && !*expected) continue;
        tried[n] = &attacks[i];
        programs[n++] = (kv_program){attacks[i].source, strlen(attacks[i].source)};
    }
    kv_error err = {0};
    if (kv_sandbox_run(sandbox, programs, n, results, NULL, NULL, &err) != KV_OK) fail_msg("%s", err.message);
    kv_sandbox_free(sandbox);
    for (int64_t i = 0; i < n; i++) {
        const char *expected = processes ? tried[i]->with_processes : tried[i]->expected;
        if (results[i].verdict == KV_RUN_PASSED ||
            (expected && strncmp(results[i].text, expected, strlen(expected)) != 0))
            fail_msg("%s: '%s', expected '%s'", tried[i]->name, results[i].text,
                     expected ? expected : "a failure");
    }
    assert_int_equal(test_count_left(getpid(), true), 0);
}

static void attacks_fail(void **state) {
    (void)state;
    run_attacks(false);
}

static void attacks_fail_with_processes(void **state) {
    (void)state;
    run_attacks(true);
}

// These go on until their time is up, and all of them hold on to life.
static void the_clock_ends_what_never_ends(void **state) {
    (void)state;
    static const char *const sources[] = {
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "import signal, time\n"
        "for n in range(1, 65):\n"
        "    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: pass",
        "import threading\n"
        "threads = [threading.Thread(target=lambda: any(iter(int, 1))) for _ in range(5)]\n"
        "[t.start() for t in threads]\n"
        "[t.join() for t in threads]",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        "import os\n"
        "while True:\n"
        "    try: os.fork()\n"
        "    except OSError: pass",
        "import os, time\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        while True: time.sleep(1)\n"
        "time.sleep(1000)",
        "try:\n"
        "    while True: pass\n"
        "finally:\n"
        "    while True: pass",
    };
    enum { N = sizeof sources / sizeof *sources };
    kv_sandbox_options o = options(1, true);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    kv_program programs[N];
    kv_run_result results[N];
    for (int i = 0; i < N; i++) programs[i] = (kv_program){sources[i], strlen(sources[i])};
    assert_int_equal(kv_sandbox_run(sandbox, programs, N, results, NULL, NULL, NULL), KV_OK);
    kv_sandbox_free(sandbox);
    for (int i = 0; i < N; i++)
        if (strcmp(results[i].text, "timed out") != 0)
            fail_msg("%s\nbrought '%s'", sources[i], results[i].text);
    assert_int_equal(test_count_left(getpid(), true), 0);
}

// ---- What can be seen from inside ----------------------------------------------------------------------

static void expect_passed(kv_sandbox *sandbox, const char *source) {
    const kv_run_result result = test_run_program(sandbox, source);
    if (result.verdict != KV_RUN_PASSED) fail_msg("%s\nbrought '%s'", source, result.text);
}

static void expect_failure(kv_sandbox *sandbox, const char *source, const char *expected) {
    const kv_run_result result = test_run_program(sandbox, source);
    if (strncmp(result.text, expected, strlen(expected)) != 0)
        fail_msg("%s\nbrought '%s', expected '%s'", source, result.text, expected);
}

// A file in the home directory, in the working directory and in /tmp, by its name and by every way around.
static void files_of_ours_are_hidden(void **state) {
    (void)state;
    kv_sandbox_options o = options(60, true);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    const char *home = getenv("HOME");
    char cwd[256], source[2048];
    assert_non_null(getcwd(cwd, sizeof cwd));
    const char *const places[] = {home && *home ? home : "/root", cwd, test_dir};
    for (int i = 0; i < 3; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/.kv-canary-XXXXXX", places[i]);
        const int fd = mkstemp(path);
        if (fd < 0) continue; // a home that is not ours to write to
        assert_int_equal(fchmod(fd, 0666), 0);
        close(fd);
        snprintf(source, sizeof source, "print(open('%s').read())", path);
        expect_failure(sandbox, source, "failed: FileNotFoundError");
        snprintf(
            source, sizeof source,
            "import os\n"
            "name = '%s'\n"
            "os.symlink(name, '/tmp/link')\n"
            "os.symlink('/proc/1/root' + name, '/tmp/link2')\n"
            "ways = ['/tmp/link', '/tmp/link2'] + [way + name for way in ('/proc/self/root', '/proc/1/root',\n"
            "    '/proc/1/cwd', '/proc/self/cwd/../../..', '/..', '/oldroot', '/newroot', '/dev/fd/3/..',\n"
            "    '/proc/self/fd/1/../../..')]\n"
            "for way in ways:\n"
            "    try: open(way)\n"
            "    except OSError: continue\n"
            "    raise ValueError(way)\n",
            path);
        expect_passed(sandbox, source);
        assert_int_equal(unlink(path), 0);
    }
    expect_passed(
        sandbox,
        "import os\n"
        "for name in ('root', 'home', 'run', 'var', 'mnt', 'srv', 'media', 'opt', 'sys', 'boot', 'work'):\n"
        "    assert not os.path.lexists('/' + name), name\n"
        "assert os.listdir('/etc') in ([], ['ld.so.cache']), os.listdir('/etc')\n"
        "assert os.listdir('/tmp') == [], os.listdir('/tmp')\n"
        "assert os.getcwd() == '/tmp'\n");
    kv_sandbox_free(sandbox);
}

static void nothing_is_inherited(void **state) {
    (void)state;
    kv_sandbox_options o = options(60, true);
    assert_int_equal(setenv("KV_TEST_SECRET", "hush", 1), 0);
    assert_int_equal(setenv("PYTHONSTARTUP", "/tmp/hush.py", 1), 0);
    const int open_one = open("/dev/zero", O_RDONLY); // without O_CLOEXEC
    assert_true(open_one >= 0);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    expect_failure(sandbox, "import os\nprint(os.environ['KV_TEST_SECRET'])", "failed: KeyError");
    expect_passed(
        sandbox,
        "import os, glob\n"
        "names = {'PATH', 'HOME', 'LANG', 'PYTHONHASHSEED', 'PWD'}\n"
        "assert set(os.environ) <= names, set(os.environ)\n"
        "for path in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try: text = open(path, 'rb').read()\n"
        "    except PermissionError: continue\n"
        "    assert b'hush' not in text\n"
        "    assert {part.split(b'=')[0].decode() for part in text.split(b'\\0') if part} <= names\n");
    // The fourth is the result's, the last one that of the listing itself.
    expect_passed(sandbox, "import os\nassert os.listdir('/proc/self/fd') == ['0', '1', '2', '3', '4']\n"
                           "assert os.readlink('/proc/self/fd/0') == '/dev/null'");
    expect_passed(sandbox, "import os\n"
                           "assert os.getuid() == 65534 and os.getgid() == 65534, os.getuid()\n"
                           "assert os.getpid() == 2 and os.uname().nodename == 'sandbox'\n"
                           "assert sorted(int(n) for n in os.listdir('/proc') if n.isdigit()) == [1, 2]\n"
                           "assert os.getsid(0) in (1, 2)\n");
    kv_sandbox_free(sandbox);
    close(open_one);
    unsetenv("KV_TEST_SECRET");
    unsetenv("PYTHONSTARTUP");
}

static int listen_at(const struct sockaddr *address, socklen_t size) {
    const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, address, size), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void no_network(void **state) {
    (void)state;
    kv_sandbox_options o = options(60, false);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    char source[512];
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof tcp;
    const int at_port = listen_at((struct sockaddr *)&tcp, size);
    assert_int_equal(getsockname(at_port, (struct sockaddr *)&tcp, &size), 0);
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    const int length = snprintf(local.sun_path + 1, sizeof local.sun_path - 1, "kv-test-%d", (int)getpid());
    const int at_name =
        listen_at((struct sockaddr *)&local, (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)length));
    snprintf(source, sizeof source, "import socket\nsocket.create_connection(('127.0.0.1', %d))",
             (int)ntohs(tcp.sin_port));
    expect_failure(sandbox, source, "failed: ConnectionRefusedError");
    snprintf(source, sizeof source, "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0%s')",
             local.sun_path + 1);
    expect_failure(sandbox, source, "failed: ConnectionRefusedError");
    expect_failure(sandbox, "import socket\nsocket.create_connection(('192.0.2.1', 80), 5)",
                   "failed: OSError: [Errno 101] Network is unreachable");
    assert_true(accept(at_port, NULL, NULL) < 0 && errno == EAGAIN);
    assert_true(accept(at_name, NULL, NULL) < 0 && errno == EAGAIN);
    close(at_port);
    close(at_name);
    kv_sandbox_free(sandbox);
}

// Memory and rights that no resource limit counts.
static void refused_calls(void **state) {
    (void)state;
    static const char source[] =
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "calls = [lambda: libc.shmget(0, 1 << 20, 0o1600), lambda: libc.msgget(0, 0o1600),\n"
        "         lambda: libc.memfd_create(b'x', 0), lambda: libc.unshare(0x10000000),\n"
        "         lambda: libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), lambda: libc.ptrace(0, 0, 0, 0)]\n"
        "for n, call in enumerate(calls):\n"
        "    assert call() == -1 and ctypes.get_errno() == 1, (n, ctypes.get_errno())\n";
    for (int processes = 0; processes < 2; processes++) {
        kv_sandbox_options o = options(60, processes);
        kv_sandbox *sandbox = test_open_sandbox(&o);
        expect_passed(sandbox, source);
        kv_sandbox_free(sandbox);
    }
}

// What HumanEval's programs and honest others need is there.
static void honest_programs_pass(void **state) {
    (void)state;
    kv_sandbox_options o = options(60, false);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    expect_passed(sandbox, "");
    expect_passed(
        sandbox,
        "import math, hashlib, random, re, string, typing, collections, itertools, functools, heapq\n"
        "import copy, datetime, decimal, fractions, json, statistics, dataclasses, asyncio\n"
        "assert hashlib.md5(b'x').hexdigest().startswith('9dd4')\n"
        "@dataclasses.dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "assert Point(1) == Point(1) and __name__ == 'program'\n");
    expect_passed(sandbox, "import threading\n"
                           "threads = [threading.Thread(target=print) for _ in range(8)]\n"
                           "[t.start() for t in threads]\n"
                           "[t.join() for t in threads]\n");
    expect_passed(sandbox, "open('/tmp/x', 'w').write('y')\nassert open('/tmp/x').read() == 'y'");
    expect_passed(sandbox,
                  "assert [hash('a'), hash('b')] == [hash('a'), hash('b')]\nimport sys\nsys.stdout.close()");
    expect_passed(sandbox, "# -*- coding: latin-1 -*-\nassert len('\xFC') == 1");
    // Two programs agree on the order of a set of strings.
    const kv_run_result first =
        test_run_program(sandbox, "assert not list({str(i) for i in range(20)})[0], hash('x')");
    const char raise_hash[] = "raise ValueError(hash('some text'))";
    const kv_run_result once = test_run_program(sandbox, raise_hash),
                        again = test_run_program(sandbox, raise_hash);
    assert_int_equal(first.verdict, KV_RUN_FAILED);
    assert_string_equal(once.text, again.text);
    // Longer than a pipe holds.
    const size_t size = (size_t)3 << 20;
    char *large = test_alloc((int64_t)size + 1, 1);
    memset(large, '#', size);
    for (size_t i = 99; i < size; i += 100) large[i] = '\n';
    expect_passed(sandbox, large);
    free(large);
    kv_sandbox_free(sandbox);
}

static void results_are_one_line_of_text(void **state) {
    (void)state;
    kv_sandbox_options o = options(60, false);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    expect_failure(sandbox, "raise ValueError('a\\x07b\\tc \xC3\xBC')", "failed: ValueError: a?b?c \xC3\xBC");
    expect_failure(sandbox,
                   "import os\nos.write(2, b'\\xc3\\xed\\xa0\\x80 \\xe2\\x82\\n\\n  \\n')\nos._exit(1)",
                   "failed: ???? ??");
    const kv_run_result result = test_run_program(sandbox, "raise ValueError('\xC3\xBC' * 5000)");
    assert_in_range(strlen(result.text), 200, KV_RUN_TEXT - 1);
    assert_true(result.seconds >= 0);
    kv_sandbox_free(sandbox);
}

// ---- What is left --------------------------------------------------------------------------------------

struct counted {
    int64_t calls, passed, index_sum;
};

static void count(void *context, int64_t index, const kv_run_result *result) {
    struct counted *c = context;
    c->calls++;
    c->index_sum += index;
    c->passed += result->verdict == KV_RUN_PASSED;
}

// Every tenth one leaves a daemon behind. KV_LONG_TESTS: a thousand of them.
static void many_programs_leave_nothing(void **state) {
    (void)state;
    static const char daemon[] = "import os, time, signal\n"
                                 "if os.fork() == 0:\n"
                                 "    os.setsid()\n"
                                 "    if os.fork(): os._exit(0)\n"
                                 "    for n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\n"
                                 "    for n in range(20): os.close(n) if n > 4 else None\n"
                                 "    while True: time.sleep(1)\n"
                                 "open('/tmp/left', 'w').write('x')\n";
    const int64_t n = getenv("KV_LONG_TESTS") ? 1000 : 60;
    kv_sandbox_options o = options(60, true);
    const int64_t descriptors = test_count_descriptors();
    kv_sandbox *sandbox = test_open_sandbox(&o);
    kv_program *programs = test_alloc(n, sizeof *programs);
    kv_run_result *results = test_alloc(n, sizeof *results);
    for (int64_t i = 0; i < n; i++) {
        programs[i].source = i % 10 == 3 ? daemon : i % 10 == 5 ? "assert False" : "pass";
        programs[i].length = strlen(programs[i].source);
    }
    struct counted counted = {0};
    kv_error err = {0};
    if (kv_sandbox_run(sandbox, programs, n, results, count, &counted, &err) != KV_OK)
        fail_msg("%s", err.message);
    for (int64_t i = 0; i < n; i++)
        if ((results[i].verdict == KV_RUN_PASSED) != (i % 10 != 5))
            fail_msg("program %lld: %s", (long long)i, results[i].text);
    assert_int_equal(counted.calls, n);
    assert_int_equal(counted.index_sum, n * (n - 1) / 2);
    assert_int_equal(test_count_left(getpid(), true), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(test_count_descriptors(), descriptors);
    free(programs);
    free(results);
    kv_sandbox_free(sandbox);
}

// In a child that is stopped half-way: by Ctrl-C, and by SIGKILL, of which it knows nothing.
static void write_one(void *context, int64_t index, const kv_run_result *result) {
    (void)index, (void)result;
    if (write(*(const int *)context, "x", 1) != 1) _exit(9);
}

static pid_t start_a_caller(int *progress) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) {
        close(ends[1]);
        *progress = ends[0];
        return child;
    }
    static const char hold[] =
        "import os, time\nos.fork()\nos.setsid() if os.getpid() != 2 else None\ntime.sleep(1000)";
    kv_console_catch_signals();
    kv_sandbox_options o = options(600, true);
    kv_sandbox *sandbox = NULL;
    kv_error err = {0};
    if (kv_sandbox_open(&o, &sandbox, &err) != KV_OK) _exit(1);
    kv_program programs[40];
    kv_run_result results[40];
    for (int i = 0; i < 40; i++)
        programs[i] = i < 4 ? (kv_program){"pass", 4} : (kv_program){hold, sizeof hold - 1};
    _exit(kv_sandbox_run(sandbox, programs, 40, results, write_one, &ends[1], &err) == KV_ERR_INTERRUPTED
              ? 42
              : 2);
}

static void stopped_callers_leave_nothing(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGKILL};
    for (int i = 0; i < 2; i++) {
        int progress, status;
        char done[4];
        const pid_t child = start_a_caller(&progress);
        for (int n = 0; n < 4; n++) assert_int_equal(read(progress, done + n, 1), 1);
        // Ctrl-C comes while some are still being built. For SIGKILL all have to run, each as bwrap, its
        // process inside, Python and Python's child: who is killed while bwrap starts another process leaves
        // that waiting.
        const int enough = signals[i] == SIGINT ? WORKERS : 4 * WORKERS;
        for (int tries = 0; tries < 6000 && test_count_left(child, false) < enough; tries++) usleep(10000);
        assert_true(test_count_left(child, false) > 0);
        assert_int_equal(kill(child, signals[i]), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (signals[i] == SIGINT) {
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), 42);
            assert_int_equal(test_count_left(child, true), 0);
        } else {
            for (int tries = 0; tries < 1000 && test_count_left(child, false) > 0; tries++) usleep(10000);
        }
        assert_int_equal(test_count_left(child, false), 0);
        close(progress);
    }
}

// ---- Other callers and other machines ------------------------------------------------------------------

// The same limits hold when the caller is not root. In a child, as users are changed for good.
static void other_users(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0) _exit(10);
        kv_sandbox_options o = options(60, true);
        kv_sandbox *sandbox = NULL;
        kv_error err = {0};
        if (kv_sandbox_open(&o, &sandbox, &err) != KV_OK) {
            print_error("%s\n", err.message);
            _exit(11);
        }
        const char *const sources[] = {attacks[1].source, attacks[2].source, "pass"};
        kv_program programs[3];
        kv_run_result results[3];
        for (int i = 0; i < 3; i++) programs[i] = (kv_program){sources[i], strlen(sources[i])};
        if (kv_sandbox_run(sandbox, programs, 3, results, NULL, NULL, &err) != KV_OK) _exit(12);
        if (strcmp(results[0].text, attacks[1].with_processes) != 0) _exit(13);
        if (strncmp(results[1].text, attacks[2].expected, strlen(attacks[2].expected)) != 0) _exit(14);
        if (results[2].verdict != KV_RUN_PASSED) _exit(15);
        kv_sandbox_free(sandbox);
        _exit(test_count_left(getpid(), true) == 0 ? 0 : 16);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void expect_refusal(const kv_sandbox_options *o, const char *const *parts) {
    kv_sandbox *sandbox = NULL;
    kv_error err = {0};
    assert_int_equal(kv_sandbox_open(o, &sandbox, &err), KV_ERR_IO);
    assert_null(sandbox);
    assert_null(strchr(err.message, '\n'));
    for (; *parts; parts++)
        if (!strstr(err.message, *parts)) fail_msg("'%s' does not say '%s'", err.message, *parts);
}

static void machines_without_bubblewrap(void **state) {
    (void)state;
    kv_sandbox_options o = options(60, false);
    char *path = strdup(getenv("PATH"));
    const char *fake = test_path(test_dir, "bwrap");
    assert_int_equal(setenv("PATH", test_dir, 1), 0);
    const char *const missing[] = {"install the package bubblewrap", "--unsafe-execution", NULL};
    expect_refusal(&o, missing);
    // One that says what bwrap says where the kernel forbids namespaces, and one that says nothing.
    test_write_text(fake, "#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n");
    assert_int_equal(chmod(fake, 0755), 0);
    assert_int_equal(chmod(test_dir, 0755), 0);
    const char *const forbidden[] = {"No permissions to create a new namespace", "unprivileged_userns_clone",
                                     "--unsafe-execution", NULL};
    expect_refusal(&o, forbidden);
    test_write_text(fake, "#!/bin/sh\nexit 3\n");
    assert_int_equal(chmod(fake, 0755), 0);
    const char *const silent[] = {"user namespaces", "--unsafe-execution", NULL};
    expect_refusal(&o, silent);
    setenv("PATH", path, 1);
    free(path);
    unlink(fake);
}

static void without_a_sandbox(void **state) {
    (void)state;
    kv_sandbox_options o = options(2, false);
    o.unsafe = true;
    const char *tmp = test_path(test_dir, "tmp");
    assert_int_equal(mkdir(tmp, 0700), 0);
    assert_int_equal(chmod(test_dir, 0755) + chmod(tmp, 0777), 0);
    assert_int_equal(setenv("TMPDIR", tmp, 1), 0);
    const int64_t descriptors = test_count_descriptors();
    kv_sandbox *sandbox = test_open_sandbox(&o);
    const char *keep = test_path(test_dir, "keep");
    char source[512];
    test_write_text(keep, "kept");
    setenv("KV_TEST_SECRET", "hush", 1);
    expect_passed(sandbox, "import os\n"
                           "assert '/tmp/kv-program-' in os.getcwd() and os.listdir('.') == []\n"
                           "assert os.environ['HOME'] == os.getcwd() and 'KV_TEST_SECRET' not in os.environ\n"
                           "os.makedirs('a/b')\n"
                           "open('a/b/c', 'w').write('x')\n");
    snprintf(source, sizeof source, "import os\nos.symlink('%s', 'link')\nos.symlink('/', 'root')", test_dir);
    expect_passed(sandbox, source);
    unsetenv("KV_TEST_SECRET");
    expect_failure(sandbox, "assert 1 == 2", "failed: AssertionError");
    expect_failure(sandbox, "import os\nos.fork()", "failed: BlockingIOError");
    expect_failure(sandbox, "x = bytearray(10 ** 12)", "out of memory");
    expect_failure(sandbox, "while True: print('x' * 1000)", "output flood");
    expect_failure(sandbox, "while True: pass", "timed out");
    expect_failure(sandbox, "import os\nos._exit(0)", "failed: ended before");
    expect_failure(sandbox, "import os\nos.write(3, b'passed')", "failed: wrote where");
    expect_failure(sandbox, "import time\ntime.sleep(1000)", "timed out");
    kv_sandbox_free(sandbox);
    assert_int_equal(access(keep, F_OK), 0);
    assert_int_equal(test_count_left(getpid(), true), 0);
    assert_int_equal(test_count_descriptors(), descriptors);
    assert_int_equal(test_dir_count(tmp), 0);
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

static void options_out_of_range(void **state) {
    (void)state;
    kv_sandbox *sandbox = NULL;
    kv_error err = {0};
    for (int i = 0; i < 7; i++) {
        kv_sandbox_options o = kv_sandbox_defaults();
        if (i == 0) o.limits.seconds = 0;
        if (i == 1) o.limits.seconds = 0.0 / 0.0;
        if (i == 2) o.limits.memory_bytes = 1 << 20;
        if (i == 3) o.workers = -1;
        if (i == 4) o.workers = KV_MAX_WORKERS + 1;
        if (i == 5) o.limits.tasks = 1;
        if (i == 6) o.limits.descriptors = 2;
        assert_int_equal(kv_sandbox_open(&o, &sandbox, &err), KV_ERR_RANGE);
        assert_null(sandbox);
    }
}

int main(void) {
    if (!test_bwrap_works()) {
        printf("bubblewrap cannot work on this machine: no test of the sandbox is run\n");
        return 77; // meson: skipped
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attacks_fail),
        cmocka_unit_test(attacks_fail_with_processes),
        cmocka_unit_test(the_clock_ends_what_never_ends),
        cmocka_unit_test(files_of_ours_are_hidden),
        cmocka_unit_test(nothing_is_inherited),
        cmocka_unit_test(no_network),
        cmocka_unit_test(refused_calls),
        cmocka_unit_test(honest_programs_pass),
        cmocka_unit_test(results_are_one_line_of_text),
        cmocka_unit_test(many_programs_leave_nothing),
        cmocka_unit_test(stopped_callers_leave_nothing),
        cmocka_unit_test(other_users),
        cmocka_unit_test(machines_without_bubblewrap),
        cmocka_unit_test(without_a_sandbox),
        cmocka_unit_test(options_out_of_range),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
