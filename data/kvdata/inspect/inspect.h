// What the describers of kvdata inspect share: the thing that is looked at, and the report they write.
//
// A kind of file is a pair: recognises(subject) tells it by its content, describe(subject, report, err) says
// what is in it. One file of C for each family of kinds; data/kvdata/cmd_inspect.c has the table of all.
#pragma once

#include "core/status.h"
#include "data/corpus/shard.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct inspect_options {
    const char *path, *tokenizer;
    int64_t n_documents; // of a shard or a text, to be shown
    bool json, hash;
} inspect_options;

// ---- What is looked at ---------------------------------------------------------------------------------

enum { INSPECT_HEAD = 4096, INSPECT_MAX_JSON = 1 << 28 };

typedef struct inspect_subject {
    const char *path; // as it was given
    const inspect_options *options;
    bool is_dir, random; // random: a name as of data/checkpoint/random.h
    int64_t size;        // bytes of a file
    bool gzip;
    // A file's beginning, uncompressed.
    unsigned char head[INSPECT_HEAD + 1];
    size_t n_head;
    bool text;    // head is UTF-8 without control characters
    json_t *json; // the whole file, when it is one JSON value
    json_t *line; // its first line, when that is a JSON object and the file JSON lines
    bool plain;   // a text that begins with a line of JSON
} inspect_subject;

// Finds out about path. Unreadable files are errors; inspect_subject_free takes a zeroed one too.
kv_status inspect_subject_open(inspect_subject *subject, const inspect_options *options, kv_error *err);
void inspect_subject_free(inspect_subject *subject);

// dir/name into path; false when it is too long or not there.
bool inspect_entry(const char *dir, const char *name, char *path, size_t size);

// The directory a file is in.
const char *inspect_directory_of(const char *path, char dir[PATH_MAX]);

// ---- What is said about it -----------------------------------------------------------------------------

// Text as it comes, or one JSON object at the end: the same facts either way.
typedef struct inspect_report inspect_report;

inspect_report *inspect_report_create(bool json); // NULL when out of memory
void inspect_report_free(inspect_report *report);
// Prints the JSON of a report that is one. KV_ERR_MEMORY when some of it was lost.
kv_status inspect_report_finish(inspect_report *report, kv_error *err);

// "KIND PATH", the first line about something; "kind" and "path" in JSON.
void inspect_title(inspect_report *report, const char *kind, const char *path);
// A fact: `value` (taken over) under `key` in JSON; in text a line, labelled with the key.
void inspect_fact(inspect_report *report, const char *key, json_t *value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// One of many: appended to the list `key` in JSON; in text an indented line.
void inspect_row(inspect_report *report, const char *key, json_t *value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// What follows, up to inspect_close, is an object of its own under `key` (in JSON; text just goes on).
void inspect_open(inspect_report *report, const char *key);
void inspect_close(inspect_report *report);
bool inspect_is_json(const inspect_report *report);
// A fact for JSON alone.
void inspect_value(inspect_report *report, const char *key, json_t *value);

// "1.2 GB" (10^9 bytes) into text; "1,079,891,456" into text.
const char *inspect_bytes(double bytes, char text[32]);
const char *inspect_count(int64_t n, char text[32]);
// At most `most` bytes of a text, whole characters, without what would move the cursor, "..." where cut.
enum { INSPECT_SHORT = 400 };
const char *inspect_short(const char *text, size_t most, char out[INSPECT_SHORT]);
// The same of text[length], which may hold NULs and need not end with one.
const char *inspect_excerpt(const char *text, size_t length, size_t most, char out[INSPECT_SHORT]);

// ---- The kinds -----------------------------------------------------------------------------------------

typedef struct inspect_kind {
    bool (*recognises)(const inspect_subject *subject);
    kv_status (*describe)(const inspect_subject *subject, inspect_report *report, kv_error *err);
} inspect_kind;

// Each list ends with an empty one.
extern const inspect_kind inspect_checkpoint_kinds[]; // directories of models, config.json
extern const inspect_kind inspect_predictor_kinds[];
extern const inspect_kind inspect_weights_kinds[]; // safetensors and their index
extern const inspect_kind inspect_tokenizer_kinds[];
extern const inspect_kind inspect_cache_kinds[];     // directories of frozen caches
extern const inspect_kind inspect_hdf5_kinds[];      // token shards, results.h5, optimiser state, any other
extern const inspect_kind inspect_run_kinds[];       // what kvtrain and kveval write, and their configs
extern const inspect_kind inspect_benchmark_kinds[]; // questions and problems
extern const inspect_kind inspect_corpus_kinds[];
extern const inspect_kind inspect_text_kinds[]; // texts, tables, pictures

// Parts of what others describe. `dir` holds a tokenizer; table_rows: of the model beside it, 0: none.
kv_status inspect_tokenizer_in(const char *dir, int64_t table_rows, inspect_report *report, kv_error *err);
// Which one a text was made with: its hash, and the files of it that lie in the text's first shard.
kv_status inspect_tokenizer_of(const char *hash, const char *shard, inspect_report *report, kv_error *err);
// Which one a model was trained with, where its directory says so.
kv_status inspect_tokenizer_said(const char *dir, inspect_report *report, kv_error *err);
// Types, bytes and files of a checkpoint's weights.
kv_status inspect_weights_in(const char *dir, inspect_report *report, kv_error *err);
// A cache-NNNNN.h5.
kv_status inspect_cache(const char *path, inspect_report *report, kv_error *err);
// A prompt of kvrun --save-prompt.
kv_status inspect_prompt(const char *path, inspect_report *report, kv_error *err);
// The first options->n_documents of a shard, on standard output; nothing in JSON.
kv_status inspect_documents(const inspect_options *options, const kv_shard *shard, kv_error *err);
// A results.h5.
kv_status inspect_results(const char *path, inspect_report *report, kv_error *err);
