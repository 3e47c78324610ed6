// The corpus as files: text in the very form in which questions are asked, and questions in TriviaQA's.
#include "data/synthetic/atlas.h"

#include "data/benchmark/triviaqa.h"
#include "data/file/json.h"
#include "data/file/whole_set.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Each writer returns a new JSON value for one line, or NULL when out of memory. Jansson's _new setters take
// over what they are given, also on failure, and refuse NULL, so a chain of them needs one check at its end.

static json_t *document_line(const kv_fact *fact) {
    char *text = kv_fact_text(fact);
    json_t *line = text ? json_pack("{s:s}", "text", text) : NULL;
    free(text);
    return line;
}

static json_t *normalized(const char *text) {
    kv_bytes plain = {0};
    json_t *value = NULL;
    if (kv_normalize_answer(text, strlen(text), &plain, NULL) == KV_OK) value = json_string(plain.data);
    kv_bytes_free(&plain);
    return value;
}

static json_t *question_line(const kv_fact *fact) {
    char id[64];
    snprintf(id, sizeof id, "%s-%" PRIi64, kv_fact_kind_name(fact->kind), fact->number);
    json_t *aliases = json_array(), *plain = json_array();
    int failed = json_array_append_new(aliases, json_string(fact->answer));
    failed |= json_array_append_new(plain, normalized(fact->answer));
    for (int64_t i = 0; i < fact->n_aliases; i++) {
        failed |= json_array_append_new(aliases, json_string(fact->aliases[i]));
        failed |= json_array_append_new(plain, normalized(fact->aliases[i]));
    }
    json_t *line =
        json_pack("{s:s, s:s, s:{s:s, s:o, s:o}}", "question_id", id, "question", fact->question, "answer",
                  "value", fact->answer, "aliases", aliases, "normalized_aliases", plain);
    if (!failed) return line;
    json_decref(line);
    return NULL;
}

// ---- Files ---------------------------------------------------------------------------------------------

static const struct output {
    const char *name;
    json_t *(*line)(const kv_fact *fact); // NULL: the summary
    bool trained, held_out;               // which facts it holds
} outputs[] = {
    {.name = "train.jsonl", .line = document_line, .trained = true, .held_out = true},
    {.name = "predictor_train.jsonl", .line = document_line, .trained = true},
    {.name = "held_out.jsonl", .line = document_line, .held_out = true},
    {.name = "questions_trained.jsonl", .line = question_line, .trained = true},
    {.name = "questions_held_out.jsonl", .line = question_line, .held_out = true},
    {.name = "atlas.json"},
};
enum { N_OUTPUTS = sizeof outputs / sizeof *outputs };

static json_t *summary(const kv_atlas *atlas) {
    json_t *kinds = json_object(), *sources = json_object();
    int failed = 0;
    int64_t n_held_out = 0;
    for (int k = 0; k < KV_FACT_KINDS; k++) {
        n_held_out += atlas->held_out[k];
        json_t *counts = json_pack("{s:I, s:I, s:I, s:I}", "available", (json_int_t)atlas->available[k],
                                   "chosen", (json_int_t)atlas->chosen[k], "trained",
                                   (json_int_t)(atlas->chosen[k] - atlas->held_out[k]), "held_out",
                                   (json_int_t)atlas->held_out[k]);
        failed |= json_object_set_new(kinds, kv_fact_kind_name((kv_fact_kind)k), counts);
    }
    for (int i = 0; i < KV_ATLAS_SOURCES; i++)
        failed |= json_object_set_new(sources, atlas->sources[i].name, json_string(atlas->sources[i].hash));
    json_t *all = json_pack("{s:I, s:I, s:I, s:I, s:f, s:o, s:o}", "facts", (json_int_t)atlas->n, "trained",
                            (json_int_t)(atlas->n - n_held_out), "held_out", (json_int_t)n_held_out, "seed",
                            (json_int_t)atlas->seed, "held_out_fraction", atlas->held_out_fraction, "kinds",
                            kinds, "iso_codes", sources);
    if (!failed) return all;
    json_decref(all);
    return NULL;
}

static bool write_output(void *context, int index, FILE *file) {
    const kv_atlas *atlas = context;
    const struct output *output = &outputs[index];
    if (!output->line) return kv_json_put(file, summary(atlas), JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    bool ok = true;
    for (int64_t i = 0; ok && i < atlas->n; i++) {
        const kv_fact *fact = &atlas->facts[i];
        if (fact->held_out ? output->held_out : output->trained)
            ok = kv_json_put(file, output->line(fact), 0);
    }
    return ok;
}

kv_status kv_atlas_write(const kv_atlas *atlas, const char *directory, kv_error *err) {
    const char *names[N_OUTPUTS];
    for (int i = 0; i < N_OUTPUTS; i++) names[i] = outputs[i].name;
    return kv_whole_set_write(directory, names, N_OUTPUTS, write_output, (void *)atlas, err);
}
