// kvrun: a prompt, one system or two, an answer on standard output. What is written where is decided here.
#include "infer/kvrun/kvrun.h"

#include "data/file/commit.h"
#include "data/file/json.h"
#include "data/file/made_by.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/limits.h"
#include "infer/cost.h"

#include <stdlib.h>
#include <string.h>

static kv_status put_json(const kvrun *run, const int32_t *ids, int64_t n, const kvrun_answer *answer,
                          kv_error *err) {
    json_t *object = kvrun_answer_json(answer, &run->system, n), *prompt = kvrun_ids_json(ids, n);
    if (!object || json_object_set_new(object, "prompt_ids", prompt) != 0) {
        json_decref(object);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the JSON object");
    }
    json_object_set_new(object, "made_by", kv_made_by(false));
    kv_json_put(stdout, object, JSON_COMPACT);
    return kvrun_flush(stdout, err);
}

static kv_status answer_once(kvrun *run, const int32_t *ids, int64_t n, bool *interrupted, kv_error *err) {
    const kvrun_options *o = &run->options;
    const int64_t room = run->context - n;
    kv_session *session;
    int64_t n_loaded;
    kv_status status = kvrun_saved_session(run, ids, n, n + (o->max_tokens < room ? o->max_tokens : room),
                                           &session, &n_loaded, err);
    if (status != KV_OK) return status;
    const int64_t n_unread = kv_session_unread(session, 0);
    kvrun_answer answer;
    status = kvrun_answer_make(run, session, ids + n_loaded, n - n_loaded, n_loaded > 0,
                               o->json ? NULL : stdout, &answer, err);
    answer.n_loaded = n_loaded, answer.n_unread = n_unread, answer.load_seconds = run->load_seconds;
    if (status == KV_OK && o->json) status = put_json(run, ids, n, &answer, err);
    if (status == KV_OK && !o->json) {
        fputc('\n', stdout);
        status = kvrun_flush(stdout, err);
    }
    if (status == KV_OK && !o->quiet && !o->json) kvrun_show_figures(&answer, &run->system, n);
    *interrupted = status == KV_OK && !strcmp(answer.finish, "interrupted");
    kvrun_answer_free(&answer);
    kv_session_free(session);
    return status;
}

static kv_status work(kvrun *run, bool *interrupted, kv_error *err) {
    const bool interactive = kvrun_is_interactive(&run->options);
    int32_t *ids = NULL;
    int64_t n = 0;
    kv_status status = kvrun_open(run, err);
    if (status == KV_OK && run->options.load_prompt) status = kvrun_saved_open(run, err);
    if (status == KV_OK && !interactive) status = kvrun_prompt_read(run, &ids, &n, err);
    if (status == KV_OK) status = kvrun_load(run, err);
    if (status == KV_OK && run->saved) status = kvrun_saved_check(run, err);
    if (status == KV_OK && interactive) return kvrun_interact(run, err);
    if (status == KV_OK && run->options.save_prompt)
        status = kvrun_saved_write(run, ids, n, err);
    else if (status == KV_OK)
        status = run->options.compare ? kvrun_compare(run, ids, n, interrupted, err)
                                      : answer_once(run, ids, n, interrupted, err);
    free(ids);
    return status;
}

int main(int argc, char **argv) {
    kv_console_start(argv);
    kv_made_by_program("kvrun", kv_commit);
    kvrun run = {0};
    kv_error err = {0};
    bool interrupted = false;
    kvrun_options_parse(argc, argv, &run.options);
    kv_console_catch_signals();
    kv_console_printout();
    kv_status status = work(&run, &interrupted, &err);
    kvrun_close(&run);
    char reason[KV_LIMITS_TEXT];
    if (status != KV_OK && status != KV_ERR_INTERRUPTED)
        kv_fold_complaint("%s%s", err.message, kv_limits_reason(&err, reason));
    if (status == KV_ERR_INTERRUPTED || interrupted) return 128 + kv_console_signal();
    return status == KV_OK ? 0 : 1;
}
