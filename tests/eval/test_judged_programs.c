// Programs of every format of problems: what passes and what does not, with tests as source and as inputs.
#include "tests/support/sandbox.h"

#include "eval/benchmark/program.h"
#include "eval/benchmark/redefined.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool unsafe; // where bubblewrap cannot work, these tests do without: test_sandbox.c is about it
static kv_sandbox *sandbox;

static int set_up(void **state) {
    test_dir_set_up(state);
    kv_sandbox_options o = test_sandbox_options(20, false);
    o.unsafe = unsafe;
    sandbox = test_open_sandbox(&o);
    return 0;
}

static int tear_down(void **state) {
    kv_sandbox_free(sandbox);
    assert_int_equal(test_count_left(getpid(), true), 0);
    return test_dir_tear_down(state);
}

static kv_problems read_problems(const char *name) {
    char path[64];
    kv_problems problems;
    kv_error err = {0};
    snprintf(path, sizeof path, "fixtures/problems/%s", name);
    if (kv_problems_read(test_fixture(path), NULL, &problems, NULL, &err)) fail_msg("%s", err.message);
    return problems;
}

static void source(void **state) {
    (void)state;
    static char prompt[] = "def f():\n", entry[] = "f", test[] = "def check(c):\n    c()", base[] = "f()\n";
    kv_problem problem = {
        .prompt = prompt, .entry_point = entry, .test = test, .base_test = base, .calls_check = true};
    char *program = kv_problem_program(&problem, "    return 1", KV_TESTS_ALL);
    assert_string_equal(program, "def f():\n    return 1\ndef check(c):\n    c()\ncheck(f)\n");
    free(program);
    problem.calls_check = false;
    program = kv_problem_program(&problem, "    return 1\n", KV_TESTS_BASE);
    assert_string_equal(program, "def f():\n    return 1\n\nf()\n\n");
    free(program);
}

// What a completion comes to: the result's text (its beginning), and whether it passed the base tests.
struct sample {
    int64_t problem;
    const char *completion, *result;
    bool base;
};

static void expect(const char *file, const struct sample *samples, int64_t n) {
    kv_problems problems = read_problems(file);
    const kv_problem *of[24];
    const char *completions[24];
    kv_sandbox_result results[24];
    bool base_passed[24];
    kv_error err = {0};
    for (int64_t i = 0; i < n; i++)
        of[i] = &problems.items[samples[i].problem], completions[i] = samples[i].completion;
    if (kv_programs_run(sandbox, of, completions, n, results, base_passed, NULL, NULL, &err))
        fail_msg("%s", err.message);
    for (int64_t i = 0; i < n; i++)
        if (strncmp(results[i].text, samples[i].result, strlen(samples[i].result)) != 0 ||
            base_passed[i] != samples[i].base)
            fail_msg("%s: %s, base tests %d", samples[i].completion, results[i].text, base_passed[i]);
    kv_problems_free(&problems);
}

static void lists_of_asserts(void **state) {
    (void)state;
    // A function called as one that the tests do not need; a wrong one; setup that comes behind the program.
    static const struct sample samples[] = {
        {0, "def count_hedgehogs(a):\n    return sum(x == 'hedgehog' for x in a)\n", "passed", true},
        {0, "def count_hedgehogs(a):\n    return 1\n", "failed: AssertionError", false},
        {0, "def count(a):\n    return 1\n", "failed: NameError", false},
        {1, "def sum(a):\n    prices['gold'] = 1\n    return prices[a[0]] + (2 if a[1:] else 0)", "passed",
         true},
        {2, "  def same_backwards(w): return 1", "failed: IndentationError", false},
    };
    expect("mbpp.jsonl", samples, sizeof samples / sizeof *samples);
}

static void base_and_all(void **state) {
    (void)state;
    static const struct sample samples[] = {
        {0, "def halves(n):\n    return [x * 0.5 for x in n]\n", "passed", true},
        {0, "def halves(n):\n    return [x * 0.5 + 1e-7 for x in n]\n", "failed: AssertionError", false},
        {0, "def halves(n):\n    return [x / 2 if x in (2, 4, 1) else x / 2 + 1e-7 for x in n]\n", "passed",
         true},
        {0, "def halves(n):\n    return [x / 2 if x in (2, 4, 1) else x / 2 + 1e-5 for x in n]\n",
         "failed: AssertionError", true},
        {0, "def halves(n):\n    return [x // 2 for x in n]\n", "failed: AssertionError", true},
        {0, "def halves(n):\n    return [1, 2][:len(n)]\n", "failed: AssertionError", true},
        {1, "def last_of(w):\n    return w[-1]\n", "failed: IndexError", true},
        {1, "def last_of(w):\n    return (w + ['x'])[-1 - bool(w)] if w else 'x'\n", "failed: TypeError",
         true},
        {1, "def last_of(w):\n    for w in w: return w\n", "failed: AssertionError", false},
        {1, "def last_of(w):\n    if not w: raise SystemExit\n    return w[-1]\n",
         "failed: ended before its tests did", true},
    };
    expect("mbppplus.jsonl", samples, sizeof samples / sizeof *samples);
}

// Limits hold in the many tests as in the few.
static void hogs(void **state) {
    (void)state;
    static const struct sample samples[] = {
        {1, "def last_of(w):\n    while not w: pass\n    return w[-1]\n", "timed out", true},
        {1, "def last_of(w):\n    while not w: print('x' * 4096)\n    return w[-1]\n", "output flood", true},
        {1, "def last_of(w):\n    return w[-1] if w else 'x' * (1 << 40)\n", "out of memory", true},
    };
    kv_sandbox *const patient = sandbox;
    kv_sandbox_options o = test_sandbox_options(5, false);
    o.unsafe = unsafe;
    sandbox = test_open_sandbox(&o);
    expect("mbppplus.jsonl", samples, sizeof samples / sizeof *samples);
    kv_sandbox_free(sandbox);
    sandbox = patient;
}

static void inputs_of_bodies(void **state) {
    (void)state;
    static const struct sample samples[] = {
        {0, "    return n + 2 - (n + 1) % 2\n", "passed", true},
        {0, "    return n + 1 if n % 2 == 0 else n + 2 if n > 0 else n\n",
         "failed: AssertionError: -7, expected -5", true},
        {0, "    return round(float(n)) + 1 + n % 2\n",
         "failed: AssertionError: 123456789012345677877719597057, expected 123456789012345678901234567891",
         true},
        // Names of a program are its own.
        {0, "    return n + 1 + n % 2\ncompare = json = copy = sum = all = isinstance = abs = None\n",
         "passed", true},
        // Nor is what compares within its reach.
        {0, "    for v in list(globals().values()):\n        if isinstance(v, dict) and 'is_right' in v:\n"
            "            v['is_right'] = '{}'.format\n    return 0\n",
         "failed: AssertionError: 0, expected", false},
        // An input that is changed is the program's own copy, too.
        {1, "    values[:] = [v * (1 / 3) for v in values]\n    return values\n", "passed", true},
        {1, "    return [v / 3 + 1e-7 for v in values]\n", "passed", true},
        {1, "    return [v / 3 + 2e-6 for v in values]\n", "failed: AssertionError: ", false},
        {1, "    return tuple(v / 3 for v in values)\n", "failed: AssertionError: (1.0,), expected [1.0]",
         false},
        {1, "    return [v / 3 for v in values] or None\n", "failed: AssertionError: None, expected []",
         true},
        {1, "    return [1.0]\n", "failed: AssertionError: [1.0], expected [0.0333", true},
    };
    expect("evalplus_humaneval.jsonl", samples, sizeof samples / sizeof *samples);
}

// Lists that stand for tuples, and answers in any order, by the numbers of MBPP+.
static void inputs_of_programs(void **state) {
    (void)state;
    static const struct sample samples[] = {
        {0, "def behind(e, f):\n    assert type(f) == tuple and type(e) == list\n    return (*f, *e)\n",
         "passed", true},
        {0, "def behind(e, f):\n    return [*f, *e]\n",
         "failed: AssertionError: [1, 2, 3], expected (1, 2, 3)", false},
        {1, "def digits_of(t):\n    return sorted({c for c in t if c.isdigit()}, reverse=True)\n", "passed",
         true},
        {1, "def digits_of(t):\n    return [c for c in t if c.isdigit()] + ['1']\n",
         "failed: AssertionError: ['1']", true},
        {1, "def digits_of(t):\n    return None\n", "failed: TypeError", false},
    };
    expect("evalplus_mbpp.jsonl", samples, sizeof samples / sizeof *samples);
}

// Programs that cheat tests of inputs are found, too; honest ones are not.
static void redefined(void **state) {
    (void)state;
    static const struct {
        const char *completion, *found;
    } cases[] = {
        {"    class Any(int):\n        def __eq__(self, other): return True\n    return Any(0)\n",
         "Any.__eq__"},
        {"    import json\n    json.loads = lambda text: []\n    return n + 1 + n % 2\n", "json.loads"},
        {"    return 0\nimport json, glob\njson.loads = glob.glob\n", "json.loads"}, // no inputs: all is right
        {"    copy.deepcopy = copy.copy\n    return n + 1 + n % 2\nimport copy\n", "copy.deepcopy"},
        {"    import builtins\n    builtins.abs = lambda v: 0\n    return n + 1 + n % 2\n", "builtins.abs"},
        {"    global close, each, copy\n    close = each = copy = lambda v: v\n    return close(n + 1 + n % 2)\n",
         NULL},
        {"    class Pair:\n        def __init__(self, v): self.v = v\n        def __eq__(self, o): return self.v == o.v\n"
         "    return n + 1 + (Pair(n % 2) == Pair(1))\n",
         NULL},
    };
    enum { N = sizeof cases / sizeof *cases };
    kv_problems problems = read_problems("evalplus_humaneval.jsonl");
    const kv_problem *of[N];
    const char *completions[N];
    kv_sandbox_result results[N];
    bool base_passed[N];
    char *found[N];
    kv_error err = {0};
    for (int i = 0; i < N; i++) of[i] = &problems.items[0], completions[i] = cases[i].completion;
    if (kv_programs_run(sandbox, of, completions, N, results, base_passed, NULL, NULL, &err))
        fail_msg("%s", err.message);
    if (kv_redefined_find(sandbox, of, completions, results, N, found, NULL, NULL, &err))
        fail_msg("%s", err.message);
    for (int i = 0; i < N; i++) {
        assert_string_equal(results[i].text, "passed");
        assert_string_equal(found[i] ? found[i] : "nothing", cases[i].found ? cases[i].found : "nothing");
        free(found[i]);
    }
    kv_problems_free(&problems);
}

// Tests that make objects of the program's classes redefine nothing; a program that takes a test's name does.
static void classes_of_programs(void **state) {
    (void)state;
    static char prompt[] = "", entry[] = "size",
                test[] = "root = Node(None)\nroot.next = Node(None)\nassert size(root) == 2\n";
    static const char *const completions[] = {
        "class Node:\n    def __init__(self, next): self.next = next\n"
        "def size(node):\n    return 1 + size(node.next) if node else 0\n",
        "class Node:\n    def __init__(self, next): self.next = next\n"
        "def size(node):\n    global root\n    root = lambda: 0\n    return 2\n"};
    const kv_problem problem = {.prompt = prompt, .entry_point = entry, .test = test},
                     *of[] = {&problem, &problem};
    const kv_sandbox_result passed[] = {{.verdict = KV_VERDICT_PASSED}, {.verdict = KV_VERDICT_PASSED}};
    char *found[2];
    kv_error err = {0};
    if (kv_redefined_find(sandbox, of, completions, passed, 2, found, NULL, NULL, &err))
        fail_msg("%s", err.message);
    assert_null(found[0]);
    assert_string_equal(found[1], "root");
    free(found[1]);
}

static void count(void *context, bool passed) {
    int *counts = context;
    counts[passed]++;
}

// Each program is told of once.
static void progress(void **state) {
    (void)state;
    kv_problems problems = read_problems("mbppplus.jsonl");
    static const char *const completions[] = {"def last_of(w):\n    return w[-1] if w else None",
                                              "def last_of(w):\n    return w[-1]",
                                              "def last_of(w):\n    return 1"};
    const kv_problem *of[] = {&problems.items[1], &problems.items[1], &problems.items[1]};
    kv_sandbox_result results[3];
    bool base_passed[3];
    int counts[2] = {0};
    assert_int_equal(kv_programs_run(sandbox, of, completions, 3, results, base_passed, count, counts, NULL),
                     KV_OK);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 1);
    kv_problems_free(&problems);
}

int main(void) {
    unsafe = !test_bwrap_works();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(source),           cmocka_unit_test(lists_of_asserts),
        cmocka_unit_test(base_and_all),     cmocka_unit_test(hogs),
        cmocka_unit_test(inputs_of_bodies), cmocka_unit_test(inputs_of_programs),
        cmocka_unit_test(redefined),        cmocka_unit_test(classes_of_programs),
        cmocka_unit_test(progress),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
