// Programs that attack: what shuts them in holds, what they use up is bounded, and nothing of them is left.
#include "tests/support/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// ---- Attacks and what becomes of them ------------------------------------------------------------------

struct attack {
    const char *name, *source;
    const char *expected; // beginning of the result where no processes can be started; NULL: fails somehow
    const char *with_processes; // the same where they can; "" : not tried
};

// These end by themselves, or by a limit other than time.
static const struct attack attacks[] = {
    {"fork bomb", "import os\nwhile True: os.fork()", "failed: PermissionError", NULL},
    {"patient fork bomb", test_fork_bomb, "failed: ValueError: 1", "failed: ValueError: 11"},
    {"thread bomb", test_thread_bomb, "failed: RuntimeError: can't start new thread",
     "failed: RuntimeError: can't start new thread"},
    {"memory at once", "x = bytearray(10 ** 12)", "out of memory", "out of memory"},
    {"memory bit by bit", "x = []\nwhile True: x.append(bytearray(1 << 20))", "out of memory",
     "out of memory"},
    {"memory from the C library",
     "import mmap\nx = []\nwhile True:\n    x.append(mmap.mmap(-1, 1 << 20))\n    x[-1].write(b'x' * (1 << 20))",
     "failed: OSError: [Errno 12]", ""},
    {"memory in small steps",
     "import time\nx = []\nwhile True:\n    x.append(bytearray(1 << 20))\n    time.sleep(0.001)",
     "out of memory", "out of memory"},
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
    {"steals the word",
     "import gc, os, sys\n"
     "seen = []\n"
     "def take(value):\n"
     "    if isinstance(value, bytes) and len(value) >= 32: os.write(3, value[:32]), os._exit(0)\n"
     "    if isinstance(value, (list, tuple, dict)) and len(seen) < 10 ** 5:\n"
     "        seen.append(value)\n"
     "        for part in (value.values() if isinstance(value, dict) else value): take(part)\n"
     "frame = sys._getframe().f_back\n"
     "while frame:\n"
     "    take([v for k, v in frame.f_locals.items() if k != 'seen'])\n"
     "    take([v for v in gc.get_referents(frame) if isinstance(v, bytes)])\n"
     "    frame = frame.f_back\n"
     "os._exit(0)",
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
    {"sets an alarm", "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\nwhile True: pass",
     "killed by signal 14", "killed by signal 14"},
    {"raises in its handler of an alarm",
     "import signal\nsignal.signal(signal.SIGALRM, lambda *a: 1 / 0)\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\n"
     "while True: pass",
     "failed: ZeroDivisionError", ""},
    {"leaves a grandchild",
     "import os, time\n"
     "if os.fork() == 0:\n"
     "    os.setsid()\n"
     "    if os.fork() == 0: time.sleep(1000)\n"
     "    os._exit(0)\n"
     "os.wait()\nraise ValueError('on')",
     "failed: PermissionError", "failed: ValueError: on"},
    {"recursion", "def f(): f()\nf()", "failed: RecursionError", ""},
    {"recursion without a limit",
     "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A:\n    def __repr__(s): return repr(s)\nrepr(A())",
     NULL, ""},
    {"an exception that leaves", "class E(Exception):\n    def __str__(s): raise SystemExit(0)\nraise E",
     "failed: ", ""},
    {"an exception that says passed", "class E(BaseException):\n    def __str__(s): return 'passed'\nraise E",
     "failed: program.E: passed", ""},
    {"an exception that fails", "class E(Exception):\n    __str__ = __repr__ = None\nraise E",
     "failed: ", ""},
    {"says nothing", "import os\nos.close(1)\nos.close(2)\nraise ValueError('x')", "failed: exit status 1",
     ""},
    {"passed, it says", "print('passed')\nimport sys\nsys.stderr.write('passed\\n')\nsys.exit(1)",
     "failed: passed", ""},
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
    kv_sandbox_options o = test_sandbox_options(60, processes);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    kv_program programs[N_ATTACKS];
    kv_sandbox_result results[N_ATTACKS];
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
        if (results[i].verdict == KV_VERDICT_PASSED ||
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
        "sum(range(10 ** 18))", // in C, where no handler of Python's is asked
        "import re\nre.match('(a+)+$', 'a' * 64 + 'b')",
        "import signal\n"
        "signal.signal(signal.SIGALRM, lambda *a: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "while True:\n"
        "    try: signal.pause()\n"
        "    except BaseException: pass",
        "import threading\n"
        "threading.Thread(target=lambda: any(iter(int, 1))).start()\n"
        "raise ValueError('while a thread goes on')",
        "import atexit\natexit.register(lambda: any(iter(int, 1)))\nraise ValueError('with something left to do')",
        "class E(Exception):\n    def __str__(s): return any(iter(int, 1))\nraise E",
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
    kv_sandbox_options o = test_sandbox_options(1, true);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    kv_program programs[N];
    kv_sandbox_result results[N];
    for (int i = 0; i < N; i++) programs[i] = (kv_program){sources[i], strlen(sources[i])};
    assert_int_equal(kv_sandbox_run(sandbox, programs, N, results, NULL, NULL, NULL), KV_OK);
    kv_sandbox_free(sandbox);
    for (int i = 0; i < N; i++)
        if (strcmp(results[i].text, "timed out") != 0)
            fail_msg("%s\nbrought '%s'", sources[i], results[i].text);
    assert_int_equal(test_count_left(getpid(), true), 0);
}

// ---- What can be seen from inside ----------------------------------------------------------------------

// A file in the home directory, in the working directory and in /tmp, by its name and by every way around.
static void files_of_ours_are_hidden(void **state) {
    (void)state;
    kv_sandbox_options o = test_sandbox_options(60, true);
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
        test_expect_failure(sandbox, source, "failed: FileNotFoundError");
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
        test_expect_passed(sandbox, source);
        assert_int_equal(unlink(path), 0);
    }
    test_expect_passed(
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
    kv_sandbox_options o = test_sandbox_options(60, true);
    assert_int_equal(setenv("KV_TEST_SECRET", "hush", 1), 0);
    assert_int_equal(setenv("PYTHONSTARTUP", "/tmp/hush.py", 1), 0);
    const int open_one = open("/dev/zero", O_RDONLY); // without O_CLOEXEC
    assert_true(open_one >= 0);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    test_expect_failure(sandbox, "import os\nprint(os.environ['KV_TEST_SECRET'])", "failed: KeyError");
    test_expect_passed(
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
    test_expect_passed(sandbox, "import os\nassert os.listdir('/proc/self/fd') == ['0', '1', '2', '3', '4']\n"
                                "assert os.readlink('/proc/self/fd/0') == '/dev/null'");
    test_expect_passed(sandbox,
                       "import os\n"
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
    kv_sandbox_options o = test_sandbox_options(60, false);
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
    test_expect_failure(sandbox, source, "failed: ConnectionRefusedError");
    snprintf(source, sizeof source, "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0%s')",
             local.sun_path + 1);
    test_expect_failure(sandbox, source, "failed: ConnectionRefusedError");
    test_expect_failure(sandbox, "import socket\nsocket.create_connection(('192.0.2.1', 80), 5)",
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
        kv_sandbox_options o = test_sandbox_options(60, processes);
        kv_sandbox *sandbox = test_open_sandbox(&o);
        test_expect_passed(sandbox, source);
        kv_sandbox_free(sandbox);
    }
}

// What HumanEval's programs and honest others need is there.
static void honest_programs_pass(void **state) {
    (void)state;
    kv_sandbox_options o = test_sandbox_options(60, false);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    test_expect_passed(sandbox, "");
    test_expect_passed(
        sandbox,
        "import math, hashlib, random, re, string, typing, collections, itertools, functools, heapq\n"
        "import copy, datetime, decimal, fractions, json, statistics, dataclasses, asyncio\n"
        "assert hashlib.md5(b'x').hexdigest().startswith('9dd4')\n"
        "@dataclasses.dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "assert Point(1) == Point(1) and __name__ == 'program'\n");
    test_expect_passed(sandbox, "import threading\n"
                                "threads = [threading.Thread(target=print) for _ in range(8)]\n"
                                "[t.start() for t in threads]\n"
                                "[t.join() for t in threads]\n");
    test_expect_passed(sandbox, "open('/tmp/x', 'w').write('y')\nassert open('/tmp/x').read() == 'y'");
    test_expect_passed(
        sandbox, "assert [hash('a'), hash('b')] == [hash('a'), hash('b')]\nimport sys\nsys.stdout.close()");
    test_expect_passed(sandbox, "# -*- coding: latin-1 -*-\nassert len('\xFC') == 1");
    // Two programs agree on the order of a set of strings.
    const kv_sandbox_result first =
        test_run_program(sandbox, "assert not list({str(i) for i in range(20)})[0], hash('x')");
    const char raise_hash[] = "raise ValueError(hash('some text'))";
    const kv_sandbox_result once = test_run_program(sandbox, raise_hash),
                            again = test_run_program(sandbox, raise_hash);
    assert_int_equal(first.verdict, KV_VERDICT_FAILED);
    assert_string_equal(once.text, again.text);
    // Longer than a pipe holds.
    const size_t size = (size_t)3 << 20;
    char *large = test_alloc((int64_t)size + 1, 1);
    memset(large, '#', size);
    for (size_t i = 99; i < size; i += 100) large[i] = '\n';
    test_expect_passed(sandbox, large);
    free(large);
    kv_sandbox_free(sandbox);
}

static void results_are_one_line_of_text(void **state) {
    (void)state;
    kv_sandbox_options o = test_sandbox_options(60, false);
    kv_sandbox *sandbox = test_open_sandbox(&o);
    test_expect_failure(sandbox, "raise ValueError('a\\x07b\\tc \xC3\xBC')",
                        "failed: ValueError: a?b?c \xC3\xBC");
    test_expect_failure(sandbox,
                        "import os\nos.write(2, b'\\xc3\\xed\\xa0\\x80 \\xe2\\x82\\n\\n  \\n')\nos._exit(1)",
                        "failed: ???? ??");
    const kv_sandbox_result result = test_run_program(sandbox, "raise ValueError('\xC3\xBC' * 5000)");
    assert_in_range(strlen(result.text), 200, KV_SANDBOX_TEXT - 1);
    assert_true(result.seconds >= 0);
    kv_sandbox_free(sandbox);
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
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
