// What a file is, by its content: asked when it could not be read as what was expected, and by kvdata inspect.
//
// Readers know their own format and no other: given a file of another kind they would call it damaged. Here stand the
// kinds that are found in their place in practice; what is none of them, libmagic is asked about. Costs nothing until
// something has failed.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// What readers expect, and what is told apart among it. A kind may be a special case of another.
typedef enum kv_file_kind {
    KV_FILE_OTHER, // nothing that is read here
    KV_FILE_TEXT,
    KV_FILE_PLAIN, // no JSON, by its first character
    KV_FILE_TABLE,
    KV_FILE_CHAT_TEMPLATE,
    KV_FILE_YAML,
    KV_FILE_TRAIN_CONFIG,
    KV_FILE_EVAL_CONFIG,
    KV_FILE_SWEEP,
    KV_FILE_JSON,
    KV_FILE_JSON_LINES,
    KV_FILE_MODEL_CONFIG,
    KV_FILE_TOKENIZER_JSON,
    KV_FILE_TOKENIZER_CONFIG,
    KV_FILE_WEIGHTS_INDEX,
    KV_FILE_PREDICTOR_JSON,
    KV_FILE_CORPUS_INDEX,
    KV_FILE_TOKENIZE_JOURNAL,
    KV_FILE_SAMPLE_SETTINGS,
    KV_FILE_RUN_STATE,
    KV_FILE_METRICS,
    KV_FILE_SAMPLES,
    KV_FILE_QUESTIONS,
    KV_FILE_HDF5,
    KV_FILE_SHARD,
    KV_FILE_CACHE,
    KV_FILE_PROMPT,
    KV_FILE_RESULTS,
    KV_FILE_OPTIMIZER,
    KV_FILE_SAFETENSORS,
    KV_FILE_TOKENIZER_MODEL,
    KV_FILE_KINDS
} kv_file_kind;

// "a safetensors file", as a message says that it was found, and that it was expected.
const char *kv_file_kind_found(kv_file_kind kind);
const char *kv_file_kind_expected(kv_file_kind kind);
// What such a file is called in the directories of ours and of models; NULL: anything.
const char *kv_file_kind_usual(kv_file_kind kind);
// Whether `kind` is `other`, or a special case of it.
bool kv_file_kind_is(kv_file_kind kind, kv_file_kind other);

typedef struct kv_identity {
    kv_file_kind kind;
    char what[240];     // "an HTML page (\"404 Not Found\")"; empty: nothing could be told
    char advice[160];   // what helps, empty: nothing is known
    kv_file_kind helps; // whom the advice helps: who expected that kind; OTHER: everybody
} kv_identity;

// Of what lies at `path`: also of directories, pipes and links that lead nowhere. unpacked: gzip is looked into, since
// who asks would have read it so.
void kv_identify(const char *path, bool unpacked, kv_identity *identity);

// Of a directory, by the files in it.
void kv_identify_directory(const char *path, kv_identity *identity);

// Whether bytes[size], the beginning of a file, are not its content but say where that is (git-lfs, git-annex).
bool kv_is_pointer(const void *bytes, size_t size);
