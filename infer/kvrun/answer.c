// An answer as it comes: each token becomes text at once, is held against the stop strings, and is shown.
#include "infer/kvrun/kvrun.h"

#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/tokenizer/text_stream.h"
#include "infer/generate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// An answer under way: tokens come from kv_generate, one call of take_token each.
struct answering {
    const kvrun *run;
    FILE *out;
    kv_text_stream *stream;        // NULL: ids only
    double started, first, newest; // kv_now() of the prefill's start, the first token and the newest
    int64_t n_steps;
    bool stopped, ended; // by a stop string, by an end token
    kv_bytes text;       // ends with a NUL that does not count
};

kv_status kvrun_flush(FILE *out, kv_error *err) {
    if (fflush(out) == 0 && !ferror(out)) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "standard output: cannot write the answer: %s", strerror(errno));
}

// ---- Text ----------------------------------------------------------------------------------------------

static kv_status keep_text(struct answering *a, const char *text, size_t n, kv_error *err) {
    kv_status status = kv_bytes_reserve(&a->text, n + 1, err);
    if (status == KV_OK) status = kv_bytes_add(&a->text, text, n, err);
    if (status != KV_OK) return status;
    a->text.data[a->text.length] = '\0';
    if (n == 0 || !a->out || a->run->options.ids) return KV_OK;
    fwrite(text, 1, n, a->out);
    return kvrun_flush(a->out, err);
}

// What is held back, now that nothing comes behind it.
static kv_status finish_text(struct answering *a, kv_error *err) {
    const char *text;
    size_t n;
    kv_status status = kv_text_stream_finish(a->stream, &text, &n, &a->stopped, err);
    return status == KV_OK ? keep_text(a, text, n, err) : status;
}

// ---- Tokens --------------------------------------------------------------------------------------------

static kv_status take_token(void *context, int64_t sequence, const int32_t *generated, int64_t n, bool *stop,
                            kv_error *err) {
    (void)sequence;
    struct answering *a = context;
    const int32_t id = generated[n - 1];
    a->newest = kv_now();
    if (n == 1) a->first = a->newest;
    a->n_steps = n;
    a->ended = kv_spec_ends(&a->run->system.base->spec, id) || (a->run->end >= 0 && id == a->run->end);
    *stop = a->ended;
    if (a->ended) return KV_OK;
    if (a->out && a->run->options.ids) {
        fprintf(a->out, n > 1 ? " %d" : "%d", id);
        kv_status status = kvrun_flush(a->out, err);
        if (status != KV_OK) return status;
    }
    if (!a->stream) return KV_OK;
    const char *text;
    size_t length;
    kv_status status = kv_text_stream_push(a->stream, id, &text, &length, &a->stopped, err);
    if (status == KV_OK) status = keep_text(a, text, length, err);
    *stop = a->stopped;
    return status;
}

static const char *finish(const struct answering *a, kv_status status) {
    if (status == KV_ERR_INTERRUPTED) return "interrupted";
    if (a->ended) return "eos";
    if (a->stopped) return "stop";
    return a->n_steps == a->run->options.max_tokens ? "length" : "context";
}

static void settle(const struct answering *a, kv_status status, kvrun_answer *answer) {
    answer->n = a->n_steps - a->ended;
    answer->finish = finish(a, status);
    answer->ttft = a->first - a->started;
    if (a->n_steps > 1 && a->newest > a->first)
        answer->tokens_per_second = (double)(a->n_steps - 1) / (a->newest - a->first);
}

// Numbers that went wrong: says of which system, and ends the line of what was written before.
static kv_status not_finite(const struct answering *a, const kv_session *session, kv_error *err) {
    if (a->out && a->n_steps > 0) {
        fputc('\n', a->out);
        fflush(a->out);
    }
    return kv_fail_within(err, KV_ERR_NOT_FINITE, "%s", kvrun_system_name(kv_session_system(session)));
}

static kv_status answer(struct answering *a, kv_session *session, const int32_t *ids, int64_t n, bool append,
                        kvrun_answer *made, kv_error *err) {
    const kvrun_options *o = &a->run->options;
    // No more tokens than the session can hold will come, plus the one that is not read any more.
    const int64_t room = kv_session_capacity(session) + 1;
    const kv_generation how = {.max_tokens = o->max_tokens < room ? o->max_tokens : room,
                               .sampling = o->sampling,
                               .n_ids = a->run->n_ids,
                               .append = append,
                               .stop = take_token,
                               .context = a};
    int64_t n_generated;
    made->ids = malloc((size_t)how.max_tokens * sizeof *made->ids);
    if (!made->ids)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld tokens", (long long)how.max_tokens);
    a->started = kv_now();
    kv_status status = kv_generate(session, ids, &n, &how, made->ids, &n_generated, err);
    if (status == KV_ERR_NOT_FINITE) return not_finite(a, session, err);
    if (status != KV_OK && status != KV_ERR_INTERRUPTED) return status;
    kv_status written = a->stream ? finish_text(a, err) : KV_OK;
    settle(a, status, made);
    return written;
}

kv_status kvrun_answer_make(const kvrun *run, kv_session *session, const int32_t *ids, int64_t n, bool append,
                            FILE *out, kvrun_answer *made, kv_error *err) {
    struct answering a = {.run = run, .out = out};
    *made = (kvrun_answer){0};
    if (run->speaks)
        a.stream = kv_text_stream_create(run->tokenizer, run->options.stops, run->options.n_stops);
    kv_status status = KV_OK;
    if (run->speaks && !a.stream) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for text");
    if (status == KV_OK) status = answer(&a, session, ids, n, append, made, err);
    made->text = a.text.data, made->length = a.text.length;
    kv_text_stream_free(a.stream);
    return status;
}

void kvrun_answer_free(kvrun_answer *made) {
    free(made->ids);
    free(made->text);
    *made = (kvrun_answer){0};
}

kv_status kvrun_time_prefill(kv_session *session, const int32_t *ids, int64_t n, double *seconds,
                             kv_error *err) {
    int32_t generated;
    int64_t n_generated;
    const double started = kv_now();
    kv_status status =
        kv_generate(session, ids, &n, &(kv_generation){.max_tokens = 1}, &generated, &n_generated, err);
    *seconds = kv_now() - started;
    if (status != KV_ERR_NOT_FINITE) return status;
    return kv_fail_within(err, status, "%s", kvrun_system_name(kv_session_system(session)));
}
