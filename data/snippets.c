#include "data/snippets.h"

#include "core/rng.h"
#include "data/snippets_ops.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char kv_snippet_entry_point[] = "solve";

const char *kv_snippet_split_name(kv_snippet_split split) {
    static const char *const names[KV_SNIPPET_SPLITS] = {"trained", "known", "held_out"};
    return names[split];
}

void kv_snippets_range(const kv_snippets *snippets, kv_snippet_split split, int64_t *begin, int64_t *end) {
    int64_t n_train = snippets->options.n_train, bounds[] = {0, n_train - n_train / 5, n_train, snippets->n};
    *begin = bounds[split];
    *end = bounds[split + 1];
}

void kv_snippets_free(kv_snippets *snippets) {
    free(snippets->compositions);
    *snippets = (kv_snippets){0};
}

// ---- Which compositions there are ----------------------------------------------------------------------

// Appends all that begin with the `n` operations in *prefix, whose result is of `type`; with all NULL it only
// counts them.
static void enumerate(kv_composition *prefix, int64_t n, int64_t depth, kv_snippet_type type,
                      kv_composition *all, int64_t *count) {
    if (n == depth) {
        if (all) all[*count] = *prefix;
        (*count)++;
        return;
    }
    for (int i = 0; i < kv_snippet_n_ops; i++) {
        if (kv_snippet_ops[i].in != type) continue;
        prefix->ops[n] = (uint8_t)i;
        enumerate(prefix, n + 1, depth, kv_snippet_ops[i].out, all, count);
    }
}

static int64_t enumerate_all(int64_t depth, kv_composition *all) {
    int64_t count = 0;
    for (int type = 0; type < KV_SNIPPET_TYPES; type++) {
        kv_composition prefix = {{0}};
        enumerate(&prefix, 0, depth, (kv_snippet_type)type, all, &count);
    }
    return count;
}

// ---- Which are chosen ----------------------------------------------------------------------------------

static void swap(kv_composition *a, kv_composition *b) {
    kv_composition kept = *a;
    *a = *b;
    *b = kept;
}

// Moves to the front, out of all[n] in random order, as few as it takes for every operation to occur. Returns
// how many.
static int64_t cover_operations(kv_composition *all, int64_t n, int64_t depth) {
    bool seen[UINT8_MAX + 1] = {false};
    int64_t front = 0;
    for (int64_t i = 0; i < n; i++) {
        bool news = false;
        for (int64_t d = 0; d < depth; d++) {
            news |= !seen[all[i].ops[d]];
            seen[all[i].ops[d]] = true;
        }
        if (news) swap(&all[front++], &all[i]);
    }
    return front;
}

static kv_status choose(const kv_composition *all, kv_snippets *snippets, kv_error *err) {
    const kv_snippets_options *o = &snippets->options;
    int64_t n = snippets->n_available, begin, n_trained;
    int64_t *order = malloc((size_t)n * sizeof *order);
    kv_composition *shuffled = malloc((size_t)n * sizeof *shuffled);
    if (!order || !shuffled) {
        free(order);
        free(shuffled);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " compositions", n);
    }
    kv_rng_permutation(kv_rng_stream(o->seed, "snippets compositions"), n, order);
    for (int64_t i = 0; i < n; i++) shuffled[i] = all[order[i]];
    free(order);
    snippets->compositions = shuffled;
    int64_t needed = cover_operations(shuffled, n, o->depth);
    kv_snippets_range(snippets, KV_SNIPPET_TRAINED, &begin, &n_trained);
    if (n_trained >= needed) return KV_OK;
    // The least n whose four fifths, rounded up, are enough.
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "%" PRIi64 " compositions to train on, expected at least %" PRIi64
                   ": fewer do not hold all %d operations",
                   o->n_train, needed + (needed - 1) / 4, kv_snippet_n_ops);
}

static kv_status check_options(const kv_snippets_options *o, kv_error *err) {
    if (o->depth < 2 || o->depth > KV_SNIPPET_MAX_DEPTH)
        return kv_fail(err, KV_ERR_ARGUMENT, "depth %" PRIi64 ", expected 2 to %d operations", o->depth,
                       KV_SNIPPET_MAX_DEPTH);
    if (o->n_train < 1 || o->n_held_out < 0)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%" PRIi64 " compositions to train on and %" PRIi64
                       " held out, expected at least 1 and 0",
                       o->n_train, o->n_held_out);
    if (o->n_documents < 1 || o->n_examples < 0 || o->n_examples > 3)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%" PRIi64 " texts a composition with %" PRIi64
                       " examples, expected at least 1 text and 0 to 3 examples",
                       o->n_documents, o->n_examples);
    return KV_OK;
}

kv_status kv_snippets_build(const kv_snippets_options *options, kv_snippets *snippets, kv_error *err) {
    *snippets = (kv_snippets){.options = *options};
    kv_status status = check_options(options, err);
    if (status) return status;
    int64_t available = enumerate_all(options->depth, NULL);
    snippets->n_available = available;
    if (options->n_train > available || options->n_held_out > available - options->n_train)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%" PRIi64 " + %" PRIi64 " compositions asked for, but there are %" PRIi64
                       " of depth %" PRIi64,
                       options->n_train, options->n_held_out, available, options->depth);
    snippets->n = options->n_train + options->n_held_out;
    kv_composition *all = malloc((size_t)available * sizeof *all);
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " compositions", available);
    enumerate_all(options->depth, all);
    status = choose(all, snippets, err);
    free(all);
    if (status) kv_snippets_free(snippets);
    return status;
}

// ---- One text ------------------------------------------------------------------------------------------

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

// One text of a composition: the same function whatever it is called with.
struct function {
    const kv_snippet_op *ops[KV_SNIPPET_MAX_DEPTH];
    int64_t constants[KV_SNIPPET_MAX_DEPTH];
    int64_t depth;
};

// A value to call it with. Letters and numbers are those that the constants are drawn from, so that counting
// and removing find something. size: 0 for the empty (or zero) value, small ones never grow out of bounds.
static void draw_input(struct draw *draw, kv_snippet_type type, int64_t size, kv_snippet_value *input) {
    static const char letters[] = "aabbccddeeABCDExyz";
    input->type = type;
    input->n = size ? between(draw, -3 * size, 3 * size) : 0;
    input->length = size ? between(draw, (size + 1) / 2, size) : 0;
    for (int64_t i = 0; i < input->length; i++) {
        if (type == KV_SNIPPET_STR) input->s[i] = letters[between(draw, 0, (int64_t)sizeof letters - 2)];
        if (type == KV_SNIPPET_LIST) input->xs[i] = between(draw, -5, 12);
    }
    if (type == KV_SNIPPET_STR) input->s[input->length] = '\0';
}

static bool call(const struct function *function, const kv_snippet_value *input, kv_snippet_value *output) {
    *output = *input;
    for (int64_t d = 0; d < function->depth; d++)
        if (!kv_snippet_apply(function->ops[d], function->constants[d], output)) return false;
    return true;
}

struct example {
    char input[256], output[2048];
};

// An input of at most this size and what the function makes of it.
static void draw_example(struct draw *draw, const struct function *function, int64_t size,
                         struct example *example) {
    kv_snippet_value input, output;
    for (;; size--) {
        draw_input(draw, function->ops[0]->in, size, &input);
        if (call(function, &input, &output) &&
            kv_snippet_repr(&input, example->input, sizeof example->input) &&
            kv_snippet_repr(&output, example->output, sizeof example->output))
            return;
    }
}

static void draw_function(struct draw *draw, const kv_snippets *snippets, int64_t i,
                          struct function *function) {
    function->depth = snippets->options.depth;
    for (int64_t d = 0; d < function->depth; d++) {
        const kv_snippet_op *op = &kv_snippet_ops[snippets->compositions[i].ops[d]];
        function->ops[d] = op;
        function->constants[d] = between(draw, op->low, op->high);
    }
}

// For a docstring: with a short result if there is one among a few.
static void put_docstring_example(struct text *text, struct draw *draw, const struct function *function) {
    enum { tries = 8, short_enough = 20 };
    struct example best = {0}, example;
    for (int i = 0; i < tries; i++) {
        draw_example(draw, function, 4, &example);
        if (i == 0 || strlen(example.output) < strlen(best.output)) best = example;
        if (strlen(best.output) <= short_enough) break;
    }
    put(text, "    >>> %s(%s)\n    %s\n", kv_snippet_entry_point, best.input, best.output);
}

static void put_prompt(struct text *text, struct draw *draw, const kv_snippets *snippets,
                       const struct function *function) {
    static const char *const given[KV_SNIPPET_TYPES] = {"a number", "a text", "a list"};
    kv_snippet_type type = function->ops[0]->in;
    const char *variable = kv_snippet_variable(type);
    put(text, "def %s(%s):\n    \"\"\"Given %s %s, ", kv_snippet_entry_point, variable, given[type],
        variable);
    for (int64_t d = 0; d < function->depth; d++) {
        const kv_snippet_op *op = function->ops[d];
        char phrase[128];
        kv_snippet_fill(op, op->phrases[between(draw, 0, KV_SNIPPET_PHRASES - 1)], function->constants[d],
                        phrase, sizeof phrase);
        put(text, "%s%s", d ? ", then " : "", phrase);
    }
    if (snippets->options.n_examples == 0) {
        put(text, ".\"\"\"\n");
        return;
    }
    put(text, ".\n");
    for (int64_t e = 0; e < snippets->options.n_examples; e++) put_docstring_example(text, draw, function);
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

// The empty input, where functions differ that agree elsewhere, and random ones.
static void put_test(struct text *text, struct draw *draw, const struct function *function) {
    static const int64_t sizes[] = {0, 2, 4, 6, 8, 8, 8, 8};
    put(text, "\n\ndef check(candidate):\n");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct example example;
        draw_example(draw, function, sizes[i], &example);
        put(text, "    assert candidate(%s) == %s\n", example.input, example.output);
    }
}

void kv_snippet_make(const kv_snippets *snippets, int64_t i, int64_t variant, kv_snippet *snippet) {
    char name[64];
    snprintf(name, sizeof name, "snippet %" PRIi64 " %" PRIi64, i, variant);
    struct draw draw = {.rng = kv_rng_stream(snippets->options.seed, name)};
    struct function function;
    draw_function(&draw, snippets, i, &function);
    put_prompt(&(struct text){snippet->prompt, sizeof snippet->prompt, 0}, &draw, snippets, &function);
    put_solution(&(struct text){snippet->solution, sizeof snippet->solution, 0}, &function);
    put_test(&(struct text){snippet->test, sizeof snippet->test, 0}, &draw, &function);
}
