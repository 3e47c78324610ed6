// What a snippet reads like: its constants, docstring, solution and tests.
#include "data/synthetic/snippets.h"

#include "core/rng.h"
#include "data/synthetic/snippets_ops.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char kv_snippet_entry_point[] = "solve";

// Random numbers of one text, drawn one after the other.
struct draw {
    kv_rng rng;
    uint64_t next;
};

static int64_t between(struct draw *draw, int64_t low, int64_t high) {
    return low + (int64_t)kv_rng_below(draw->rng, draw->next++, (uint64_t)(high - low + 1));
}

struct text {
    char *out;
    size_t size, used;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text->out + text->used, text->size - text->used, format, arguments);
    va_end(arguments);
    text->used += (size_t)n;
    if (text->used >= text->size) text->used = text->size - 1;
}

// ---- Functions and what they are called with -----------------------------------------------------------

struct function {
    const kv_snippet_op *ops[KV_SNIPPET_MAX_DEPTH];
    int64_t constants[KV_SNIPPET_MAX_DEPTH];
    int64_t depth;
};

struct example {
    kv_snippet_value input, output;
    char input_text[256], output_text[2048];
};

static void draw_function(struct draw *draw, const kv_snippets *snippets, int64_t i,
                          struct function *function) {
    function->depth = snippets->options.depth;
    for (int64_t d = 0; d < function->depth; d++) {
        const kv_snippet_op *op = &kv_snippet_ops[snippets->compositions[i].ops[d]];
        function->ops[d] = op;
        function->constants[d] = between(draw, op->low, op->high);
    }
}

static bool call(const struct function *function, const kv_snippet_value *input, kv_snippet_value *output) {
    *output = *input;
    for (int64_t d = 0; d < function->depth; d++)
        if (!kv_snippet_apply(function->ops[d], function->constants[d], output)) return false;
    return true;
}

// Letters and numbers are those that the constants are drawn from, so that counting and removing find
// something. Size 0 is the empty value or zero, of which no function makes more than fits.
static void draw_input(struct draw *draw, kv_snippet_type type, int64_t size, kv_snippet_value *input) {
    static const char letters[] = "aabbccddeeABCDExyz";
    memset(input, 0, sizeof *input);
    input->type = type;
    input->n = type == KV_SNIPPET_INT ? between(draw, -3 * size, 3 * size) : 0;
    input->length = type == KV_SNIPPET_INT ? 0 : between(draw, (size + 1) / 2, size);
    for (int64_t i = 0; i < input->length; i++) {
        if (type == KV_SNIPPET_STR) input->s[i] = letters[between(draw, 0, (int64_t)sizeof letters - 2)];
        if (type == KV_SNIPPET_LIST) input->xs[i] = between(draw, -5, 12);
    }
}

// An input of at most this size, and what the function makes of it.
static void draw_example(struct draw *draw, const struct function *function, int64_t size,
                         struct example *e) {
    for (;; size--) {
        draw_input(draw, function->ops[0]->in, size, &e->input);
        if (call(function, &e->input, &e->output) &&
            kv_snippet_repr(&e->input, e->input_text, sizeof e->input_text) &&
            kv_snippet_repr(&e->output, e->output_text, sizeof e->output_text))
            return;
    }
}

// ---- Tests that tell ------------------------------------------------------------------------------------

enum { min_tests = 8, max_tests = 16, max_mutants = KV_SNIPPET_MAX_DEPTH * 8 };

struct tests {
    struct example examples[max_tests];
    int64_t n;
    struct function mutants[max_mutants]; // that still pass
    int64_t n_mutants;
};

// The function with one other constant, or without one operation.
static void list_mutants(const struct function *function, struct tests *tests) {
    tests->n_mutants = 0;
    for (int64_t d = 0; d < function->depth; d++) {
        const kv_snippet_op *op = function->ops[d];
        for (int64_t c = op->low; c <= op->high; c++) {
            if (c == function->constants[d]) continue;
            struct function *mutant = &tests->mutants[tests->n_mutants++];
            *mutant = *function;
            mutant->constants[d] = c;
        }
        if (op->in != op->out) continue;
        struct function *mutant = &tests->mutants[tests->n_mutants++];
        *mutant = *function;
        mutant->depth--;
        for (int64_t i = d; i < mutant->depth; i++) {
            mutant->ops[i] = function->ops[i + 1];
            mutant->constants[i] = function->constants[i + 1];
        }
    }
}

// Drops the mutants that the newest example tells from the function. Returns whether there were any.
static bool drop_mutants(struct tests *tests, const struct example *example) {
    int64_t kept = 0, before = tests->n_mutants;
    for (int64_t i = 0; i < before; i++) {
        kv_snippet_value output;
        char text[sizeof example->output_text];
        bool passes = call(&tests->mutants[i], &example->input, &output) &&
                      kv_snippet_repr(&output, text, sizeof text) && strcmp(text, example->output_text) == 0;
        if (passes) tests->mutants[kept++] = tests->mutants[i];
    }
    tests->n_mutants = kept;
    return kept < before;
}

// The empty input, where functions differ that agree elsewhere, random ones, and those that tell the function
// from a mutant.
static void draw_tests(struct draw *draw, const struct function *function, struct tests *tests) {
    static const int64_t sizes[min_tests] = {0, 2, 4, 6, 8, 8, 8, 8};
    enum { tries = 100 };
    list_mutants(function, tests);
    tests->n = 0;
    for (int64_t i = 0; i < tries && tests->n < max_tests; i++) {
        if (i >= min_tests && tests->n_mutants == 0) break;
        struct example *example = &tests->examples[tests->n];
        draw_example(draw, function, i < min_tests ? sizes[i] : 8, example);
        if (drop_mutants(tests, example) || i < min_tests) tests->n++;
    }
}

// Constants that matter (counting every 3 among squares never does), if a few draws bring such.
static void draw_problem(struct draw *draw, const kv_snippets *snippets, int64_t i, struct function *function,
                         struct tests *tests) {
    enum { tries = 8 };
    int64_t fewest = INT64_MAX;
    struct function drawn = {.depth = 0};
    for (int t = 0; t < tries && fewest > 0; t++) {
        draw_function(draw, snippets, i, &drawn);
        draw_tests(draw, &drawn, tests);
        if (tests->n_mutants >= fewest) continue;
        fewest = tests->n_mutants;
        *function = drawn;
    }
    if (fewest > 0) draw_tests(draw, function, tests);
}

// ---- Text ----------------------------------------------------------------------------------------------

// For a docstring: with a short result if there is one among a few.
static void put_example(struct text *text, struct draw *draw, const struct function *function) {
    enum { tries = 8, short_enough = 20 };
    struct example best, example;
    for (int i = 0; i < tries; i++) {
        draw_example(draw, function, 4, &example);
        if (i == 0 || strlen(example.output_text) < strlen(best.output_text)) best = example;
        if (strlen(best.output_text) <= short_enough) break;
    }
    put(text, "    >>> %s(%s)\n    %s\n", kv_snippet_entry_point, best.input_text, best.output_text);
}

static void put_prompt(struct text *text, struct draw *draw, const struct function *function,
                       int64_t n_examples) {
    static const char *const given[KV_SNIPPET_TYPES] = {"a number", "a text", "a list"};
    kv_snippet_type type = function->ops[0]->in;
    const char *variable = kv_snippet_variable(type);
    put(text, "def %s(%s):\n    \"\"\"Given %s %s, ", kv_snippet_entry_point, variable, given[type],
        variable);
    for (int64_t d = 0; d < function->depth; d++) {
        const kv_snippet_op *op = function->ops[d];
        const char *words = op->phrases[between(draw, 0, KV_SNIPPET_PHRASES - 1)];
        char phrase[128];
        kv_snippet_fill(op, words, function->constants[d], phrase, sizeof phrase);
        put(text, "%s%s", d ? ", then " : "", phrase);
    }
    if (n_examples == 0) {
        put(text, ".\"\"\"\n");
        return;
    }
    put(text, ".\n");
    for (int64_t e = 0; e < n_examples; e++) put_example(text, draw, function);
    put(text, "    \"\"\"\n");
}

static void put_solution(struct text *text, const struct function *function) {
    for (int64_t d = 0; d < function->depth; d++) {
        const kv_snippet_op *op = function->ops[d];
        char code[128];
        kv_snippet_fill(op, op->code, function->constants[d], code, sizeof code);
        if (d < function->depth - 1)
            put(text, "    %s = %s\n", kv_snippet_variable(op->out), code);
        else
            put(text, "    return %s\n", code);
    }
}

// Types count as well as values: an object that says it equals everything is no answer, nor is True for 1.
static void put_tests(struct text *text, const struct tests *tests) {
    put(text, "\n\ndef check(candidate):\n"
              "    def same(a, b):\n"
              "        if type(a) is not type(b): return False\n"
              "        return len(a) == len(b) and all(map(same, a, b)) if type(b) is list else a == b\n");
    for (int64_t i = 0; i < tests->n; i++)
        put(text, "    assert same(candidate(%s), %s)\n", tests->examples[i].input_text,
            tests->examples[i].output_text);
}

void kv_snippet_make(const kv_snippets *snippets, int64_t i, int64_t variant, kv_snippet *snippet) {
    char name[64];
    snprintf(name, sizeof name, "snippet %" PRIi64 " %" PRIi64, i, variant);
    struct draw draw = {.rng = kv_rng_stream(snippets->options.seed, name)};
    struct function function = {.depth = 0};
    snippet->test[0] = '\0';
    if (variant == 0) {
        struct tests tests;
        draw_problem(&draw, snippets, i, &function, &tests);
        put_tests(&(struct text){snippet->test, sizeof snippet->test, 0}, &tests);
    } else {
        draw_function(&draw, snippets, i, &function);
    }
    put_prompt(&(struct text){snippet->prompt, sizeof snippet->prompt, 0}, &draw, &function,
               snippets->options.n_examples);
    put_solution(&(struct text){snippet->solution, sizeof snippet->solution, 0}, &function);
}
