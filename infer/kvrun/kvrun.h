// What the parts of the program kvrun share. Not for others.
#pragma once

#include "data/chat/chat.h"
#include "data/checkpoint/checkpoint.h"
#include "data/system/buffers.h"
#include "data/tokenizer/tokenizer.h"
#include "infer/session/engine.h"
#include "infer/session/sample.h"

#include <stdio.h>

typedef struct kvrun_options {
    const char *base, *aux, *predictor; // directories or random names; aux and predictor may be NULL
    const char *tabulated; // of the predictor: a file, or the directory that has it; NULL: it is computed
    const char *tokenizer; // NULL: the base's own
    char **words;          // [n_words] the prompt, in one of four ways; see kvrun_prompt_read
    int n_words;
    const char *file, *prompt_ids;
    const char *save_prompt, *load_prompt; // files of data/prompt/saved_prompt.h; NULL: none
    const char *system;                    // chat: the system message
    const char **stops;                    // [n_stops]
    size_t n_stops;
    int64_t max_tokens, context, repeats; // context 0: the models' own
    kv_frozen_dtype dtype;                // that weights are held in
    kv_sampling sampling;
    kv_pruning pruning;
    bool compare, ids, json, chat, quiet, no_bos;
    bool cut;        // a prompt that is too long loses its left
    bool no_history; // what is typed is not kept for the next run
} kvrun_options;

// Ends the program on --help, --version and wrong usage. *stops is the caller's to free.
void kvrun_options_parse(int argc, char **argv, kvrun_options *options); // in options.c
bool kvrun_is_interactive(const kvrun_options *options); // no prompt, and a terminal to ask for one

typedef struct kvrun {
    kvrun_options options;
    kv_tokenizer *tokenizer;  // NULL: ids in, ids out
    kv_model_spec specs[2];   // what the config.json of base and aux say
    kv_system system;         // what was asked for; owns its models
    char fingerprints[3][17]; // of base, aux and predictor as they are stored; "" where nobody asks for them
    kv_saved_prompt *saved;   // --load-prompt's; NULL: none
    double load_seconds;      // that it took to read and, so far, to put into a session
    char *text;               // what the prompt's ids are of, [n_text], where they are all of a text
    size_t n_text;
    kv_chat_template chat; // with --chat
    int32_t end;           // with --chat: what ends an answer besides what the config says; or -1
    int64_t context;       // tokens that a session may hold
    bool speaks;           // ids become text
    int64_t n_ids;         // ids that may be drawn
} kvrun;

// What the options name, checked; and then the weights. Close with kvrun_close, also after a failure.
kv_status kvrun_open(kvrun *run, kv_error *err); // in load.c
kv_status kvrun_load(kvrun *run, kv_error *err);
void kvrun_close(kvrun *run);

// A session whose weights have been read once (with a prompt of two tokens that is forgotten again), so that
// the clock does not measure the disk.
kv_status kvrun_session(const kv_system *system, int64_t capacity, kv_session **session, kv_error *err);
kv_status kvrun_session_turns(const kv_system *system, int64_t capacity, kv_session **session, kv_error *err);

// The prompt as ids: from words, file, ids, or standard input. Caller frees *ids. In prompt.c.
// Behind what --load-prompt brings, where there is that.
kv_status kvrun_prompt_read(kvrun *run, int32_t **ids, int64_t *n, kv_error *err);
// Text as a prompt: with BOS by the tokenizer's rule.
kv_status kvrun_prompt_encode(const kvrun *run, const char *text, size_t length, int32_t **ids, int64_t *n,
                              kv_error *err);

// With --too-long cut: takes tokens away from the left of ids[*n], but for a BOS, until they and the longest answer
// fit. How many; -1: nothing of the prompt would be left. In prompt.c.
int64_t kvrun_prompt_cut(const kvrun *run, int32_t *ids, int64_t *n);

// ---- Saved prompts ------------------------------------------------------------------------------------- in saved.c

// Reads --load-prompt's file. And, once the models are there, whether it is theirs: KV_ERR_MISMATCH.
kv_status kvrun_saved_open(kvrun *run, kv_error *err);
kv_status kvrun_saved_check(const kvrun *run, kv_error *err);
// A session of that capacity, or of what the saved prompt needs, that holds as much of it as ids[n] begin with: of the n
// *n_loaded tokens need not be read any more, less than n. Without a saved prompt *n_loaded is 0.
kv_status kvrun_saved_session(kvrun *run, const int32_t *ids, int64_t n, int64_t capacity,
                              kv_session **session, int64_t *n_loaded, kv_error *err);
// --save-prompt: reads ids[n] and writes the file.
kv_status kvrun_saved_write(kvrun *run, const int32_t *ids, int64_t n, kv_error *err);
// A file, if it is one of this run's system; and what reading it took.
kv_status kvrun_saved_read(const kvrun *run, const char *path, kv_saved_prompt **prompt, double *seconds,
                           kv_error *err);
// What a session holds as a file; ids[n]: all that it has read, or one token more.
kv_status kvrun_saved_put(const kvrun *run, const char *path, const kv_session *session, const int32_t *ids,
                          int64_t n, const char *text, size_t n_text, kv_error *err);

// ---- Answers -------------------------------------------------------------------------------------------

typedef struct kvrun_answer {
    int32_t *ids; // [n] without the token that ended it
    int64_t n;
    char *text; // NUL-terminated, up to a stop string; NULL without a tokenizer
    size_t length;
    const char *finish;       // eos, stop, length, context, interrupted
    double ttft;              // seconds from the start of the prefill to the first token, which is known then
    double tokens_per_second; // of the tokens behind the first; 0: there were none
    // Of a prompt whose beginning was loaded: tokens, those of them that the aux read later, and what loading took.
    int64_t n_loaded, n_unread;
    double load_seconds;
} kvrun_answer;

// Reads ids[n] and answers. append: behind what the session has read. out: where the answer is written as it
// comes, as text or (--ids) ids, without a new line at the end; NULL: nowhere. Being interrupted is a way to
// finish. Free with kvrun_answer_free, also after a failure. In answer.c.
kv_status kvrun_answer_make(const kvrun *run, kv_session *session, const int32_t *ids, int64_t n, bool append,
                            FILE *out, kvrun_answer *answer, kv_error *err);
void kvrun_answer_free(kvrun_answer *answer);
// Seconds that a prefill takes, to the first token's argmax.
kv_status kvrun_time_prefill(kv_session *session, const int32_t *ids, int64_t n, double *seconds,
                             kv_error *err);

// ---- Showing -------------------------------------------------------------------------------------------

// "12.3 ms", "1.52 s" and the like. In show.c.
char *kvrun_seconds(double seconds, char text[32]);
// "1.52 GFLOPs", "15.20 MFLOPs".
char *kvrun_flops(uint64_t flops, char text[32]);
// "base", "KVP", "pruned".
const char *kvrun_system_name(const kv_system *system);
// A line of figures on stderr.
void kvrun_show_figures(const kvrun_answer *answer, const kv_system *system, int64_t n_prompt);
// The object for --json, without the prompt; NULL when out of memory.
struct json_t *kvrun_answer_json(const kvrun_answer *answer, const kv_system *system, int64_t n_prompt);
struct json_t *kvrun_ids_json(const int32_t *ids, int64_t n);
// Puts what was written through; KV_ERR_IO when it could not be.
kv_status kvrun_flush(FILE *out, kv_error *err);

// Two texts beside each other in so many columns of a terminal, lines broken between words. In columns.c.
void kvrun_columns_print(FILE *out, int width, const char *const titles[2], const char *const texts[2]);

// ---- What main chooses from ----------------------------------------------------------------------------

kv_status kvrun_compare(const kvrun *run, const int32_t *ids, int64_t n, bool *interrupted, kv_error *err);
kv_status kvrun_interact(const kvrun *run, kv_error *err);

// Until there is something to read on standard input (or its end). KV_ERR_INTERRUPTED on a signal to stop.
kv_status kvrun_wait_for_input(kv_error *err); // in line.c

// Lines typed at the terminal, behind a prompt on standard error: edited (edit.h) where it can move its cursor; where it is dumb or
// standard error leads elsewhere, as the terminal hands them on.
typedef struct kvrun_line {
    struct kvrun_editor *editor; // NULL: the latter
    kv_bytes text;               // ends with a NUL that does not count
    char ahead[4096];            // read, but behind the line
    size_t n_ahead;
} kvrun_line;
// keep: what is typed is kept for the next run. commands: what Tab completes, NULL behind the last. Close it also after a failure.
kv_status kvrun_line_open(kvrun_line *line, bool keep, const char *const *commands, kv_error *err);
void kvrun_line_close(kvrun_line *line);
// The next one, without its end, in *text until the next call. *end: Ctrl-D, or the terminal is gone. KV_ERR_INTERRUPTED on a
// signal to stop.
kv_status kvrun_line_read(kvrun_line *line, const char **text, bool *end, kv_error *err);
