// One table says which file holds which splits; texts and problems of a composition differ by their variant
// alone.
#include "data/synthetic/snippets.h"

#include "data/file/json.h"
#include "data/file/whole_set.h"
#include "data/synthetic/snippets_ops.h"
#include "data/system/console.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRAINED = KV_SNIPPET_TRAINED, KNOWN = KV_SNIPPET_KNOWN, HELD_OUT = KV_SNIPPET_HELD_OUT };

static const struct output {
    const char *name;
    enum { TEXTS, PROBLEMS, SUMMARY } kind;
    bool splits[KV_SNIPPET_SPLITS]; // which compositions it holds
} outputs[] = {
    {.name = "train.jsonl", .kind = TEXTS, .splits = {[TRAINED] = true, [KNOWN] = true}},
    {.name = "predictor_train.jsonl", .kind = TEXTS, .splits = {[TRAINED] = true}},
    {.name = "held_out.jsonl", .kind = TEXTS, .splits = {[HELD_OUT] = true}},
    {.name = "problems_trained.jsonl", .kind = PROBLEMS, .splits = {[TRAINED] = true}},
    {.name = "problems_known.jsonl", .kind = PROBLEMS, .splits = {[KNOWN] = true}},
    {.name = "problems_held_out.jsonl", .kind = PROBLEMS, .splits = {[HELD_OUT] = true}},
    {.name = "snippets.json", .kind = SUMMARY},
};
enum { N_OUTPUTS = sizeof outputs / sizeof *outputs };

// ---- Lines ---------------------------------------------------------------------------------------------

// Each returns a new JSON value, or NULL when out of memory.

static json_t *text_line(const kv_snippet *snippet) {
    char text[sizeof snippet->prompt + sizeof snippet->solution];
    snprintf(text, sizeof text, "%s%s", snippet->prompt, snippet->solution);
    return json_pack("{s:s}", "text", text);
}

static json_t *problem_line(const kv_snippet *snippet, kv_snippet_split split, int64_t number) {
    char id[64];
    snprintf(id, sizeof id, "snippets_%s/%" PRIi64, kv_snippet_split_name(split), number);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "task_id", id, "prompt", snippet->prompt, "entry_point",
                     kv_snippet_entry_point, "canonical_solution", snippet->solution, "test", snippet->test);
}

// How many compositions of each split have the operation.
static json_t *operation_entry(const kv_snippets *snippets, int op) {
    json_t *entry = json_pack("{s:s, s:s, s:s, s:s}", "in", kv_snippet_type_name(kv_snippet_ops[op].in),
                              "out", kv_snippet_type_name(kv_snippet_ops[op].out), "words",
                              kv_snippet_ops[op].phrases[0], "code", kv_snippet_ops[op].code);
    for (int s = 0; s < KV_SNIPPET_SPLITS; s++) {
        int64_t begin, end, n = 0;
        kv_snippets_range(snippets, (kv_snippet_split)s, &begin, &end);
        for (int64_t i = begin; i < end; i++) {
            const uint8_t *ops = snippets->compositions[i].ops;
            n += memchr(ops, op, (size_t)snippets->options.depth) != NULL;
        }
        if (json_object_set_new(entry, kv_snippet_split_name((kv_snippet_split)s), json_integer(n)) != 0) {
            json_decref(entry);
            return NULL;
        }
    }
    return entry;
}

static json_t *summary(const kv_snippets *snippets) {
    const kv_snippets_options *o = &snippets->options;
    json_t *operations = json_object(), *compositions = json_object();
    int failed = json_object_set_new(compositions, "available", json_integer(snippets->n_available));
    for (int s = 0; s < KV_SNIPPET_SPLITS; s++) {
        int64_t begin, end;
        kv_snippets_range(snippets, (kv_snippet_split)s, &begin, &end);
        failed |= json_object_set_new(compositions, kv_snippet_split_name((kv_snippet_split)s),
                                      json_integer(end - begin));
    }
    for (int i = 0; i < kv_snippet_n_ops; i++)
        failed |= json_object_set_new(operations, kv_snippet_ops[i].name, operation_entry(snippets, i));
    json_t *all =
        json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "seed", (json_int_t)o->seed, "depth",
                  (json_int_t)o->depth, "texts_per_composition", (json_int_t)o->n_texts, "examples",
                  (json_int_t)o->n_examples, "compositions", compositions, "operations", operations);
    if (!failed) return all;
    json_decref(all);
    return NULL;
}

// ---- Files ---------------------------------------------------------------------------------------------

static bool put_composition(FILE *file, const kv_snippets *snippets, int kind, kv_snippet_split split,
                            int64_t i, int64_t number) {
    kv_snippet snippet;
    bool ok = true;
    if (kind == PROBLEMS) {
        kv_snippet_make(snippets, i, 0, &snippet);
        return kv_json_put(file, problem_line(&snippet, split, number), 0);
    }
    for (int64_t v = 1; ok && v <= snippets->options.n_texts; v++) {
        kv_snippet_make(snippets, i, v, &snippet);
        ok = kv_json_put(file, text_line(&snippet), 0);
    }
    return ok;
}

// Stops early, with true, when the user wants that.
static bool write_output(void *context, int index, FILE *file) {
    const kv_snippets *snippets = context;
    const struct output *output = &outputs[index];
    if (output->kind == SUMMARY) return kv_json_put(file, summary(snippets), JSON_INDENT(2));
    bool ok = true;
    for (int s = 0; s < KV_SNIPPET_SPLITS; s++) {
        int64_t begin, end;
        kv_snippets_range(snippets, (kv_snippet_split)s, &begin, &end);
        for (int64_t i = begin; output->splits[s] && ok && i < end && !kv_console_interrupted(); i++)
            ok = put_composition(file, snippets, output->kind, (kv_snippet_split)s, i, i - begin);
    }
    return ok;
}

kv_status kv_snippets_write(const kv_snippets *snippets, const char *directory, kv_error *err) {
    const char *names[N_OUTPUTS];
    for (int i = 0; i < N_OUTPUTS; i++) names[i] = outputs[i].name;
    return kv_whole_set_write(directory, names, N_OUTPUTS, write_output, (void *)snippets, err);
}
