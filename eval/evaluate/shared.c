// Saved prompts that tasks go on from: found, made where there are none, and checked against systems and items.
#include "eval/evaluate/shared.h"

#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "eval/benchmark/kinds.h"
#include "eval/config/config.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char placeholder[] = "{system}";
enum { LEAST = 8 }; // tokens that are worth a file

// Answers are generated behind one prompt an item.
static bool generates(const kv_benchmark *b) {
    return b->answer_tokens > 0 && b->n_items > 0 && b->items[0].n_seq == 1 && b->items[0].ids;
}

// Tokens that the prompts of all items begin with, fewer than the shortest has: the last one of a prompt is always read.
static int64_t alike(const kv_benchmark *b) {
    const kv_item *first = &b->items[0];
    int64_t n = first->lengths[0] - 1;
    for (int64_t i = 1; i < b->n_items; i++) {
        const kv_item *item = &b->items[i];
        int64_t same = 0;
        if (n > item->lengths[0] - 1) n = item->lengths[0] - 1;
        while (same < n && item->ids[same] == first->ids[same]) same++;
        n = same;
    }
    return n;
}

// Before weights are there a shape says as much.
static bool prunes(const kv_evaluation *e, int64_t system) {
    const kv_systems *all = e->systems;
    const kv_system *one =
        all->items[system].base || !all->shapes ? &all->items[system] : &all->shapes[system];
    return one->pruning.kind != KV_PRUNE_NONE;
}

static kv_status blame(const kv_evaluation *e, int64_t task, kv_error *err) {
    char key[KV_EVAL_KEY];
    kv_eval_list_key(key, "tasks", (unsigned)task, "prompt_cache");
    return kv_eval_blame(e->source, key, err);
}

// The file of a system; false: the path is too long.
static bool path_of(const char *pattern, const char *system, char path[PATH_MAX]) {
    const char *at = strstr(pattern, placeholder);
    const int n = at ? snprintf(path, PATH_MAX, "%.*s%s%s", (int)(at - pattern), pattern, system,
                                at + sizeof placeholder - 1)
                     : snprintf(path, PATH_MAX, "%s", pattern);
    return n >= 0 && n < PATH_MAX;
}

kv_status kv_shared_file_find(const kv_evaluation *e, int64_t system, int64_t task, kv_shared_file *file,
                              kv_error *err) {
    const char *pattern = e->config->tasks[task].prompt_cache;
    const kv_benchmark *b = e->benchmarks[task];
    *file = (kv_shared_file){0};
    if (!pattern || !generates(b)) return KV_OK;
    if (!path_of(pattern, e->config->systems[system].name, file->path)) {
        kv_fail(err, KV_ERR_ARGUMENT, "%s: the path is too long", pattern);
        return blame(e, task, err);
    }
    file->there = access(file->path, F_OK) == 0;
    file->n_tokens = alike(b);
    file->used = file->there || (file->n_tokens >= LEAST && !prunes(e, system));
    return KV_OK;
}

// ---- Those that are there ------------------------------------------------------------------------------

// One that goes on behind what all prompts have was made of fewer items than there are now: it serves up to there.
static void cut_to_alike(kv_saved_prompt *prompt, const kv_benchmark *b) {
    const int64_t n = alike(b);
    if (n < LEAST || prompt->n_rows <= n) return;
    if (memcmp(prompt->ids, b->items[0].ids, (size_t)n * sizeof *prompt->ids) != 0) return;
    prompt->n_rows = prompt->base.n_rows = n;
    if (prompt->aux.n_rows > n) prompt->aux.n_rows = n;
}

static kv_status check_items(const char *path, const kv_benchmark *b, const kv_saved_prompt *prompt,
                             kv_error *err) {
    for (int64_t i = 0; i < b->n_items; i++) {
        const kv_item *item = &b->items[i];
        int64_t same = 0;
        while (same < prompt->n_rows && same < item->lengths[0] && item->ids[same] == prompt->ids[same])
            same++;
        if (same == prompt->n_rows && same < item->lengths[0]) continue;
        return kv_fail(err, KV_ERR_MISMATCH,
                       "%s: its %" PRIi64 " tokens are not what the prompt of %s begins with: found %" PRIi64
                       " the same of %" PRIi64 ", expected all of them, and at least one more",
                       path, prompt->n_rows, item->where, same, item->lengths[0]);
    }
    return KV_OK;
}

// Whose it is can be told once weights are there.
static kv_status check(const kv_evaluation *e, int64_t system, int64_t task, const char *path,
                       kv_saved_prompt *prompt, kv_error *err) {
    const char *name = e->config->systems[system].name;
    kv_status status = KV_OK;
    if (prunes(e, system))
        return kv_fail(
            err, KV_ERR_MISMATCH,
            "%s: `%s` prunes what it reads, and reads every prompt as a whole: expected no saved prompt of it",
            path, name);
    if (e->systems->items[system].base) {
        kv_saved_maker maker;
        kv_systems_maker(e->systems, system, e->tokenizer, &maker);
        status = kv_saved_prompt_check(path, prompt, &maker, err);
    }
    if (status != KV_OK) return kv_fail_within(err, status, "`%s`", name);
    cut_to_alike(prompt, e->benchmarks[task]);
    return check_items(path, e->benchmarks[task], prompt, err);
}

kv_status kv_shared_prompt_open(const kv_evaluation *e, int64_t system, int64_t task,
                                kv_saved_prompt **prompt, kv_error *err) {
    kv_shared_file file;
    *prompt = NULL;
    kv_status status = kv_shared_file_find(e, system, task, &file, err);
    if (status != KV_OK || !file.there) return status;
    status = kv_saved_prompt_read(file.path, prompt, err);
    if (status == KV_OK) status = check(e, system, task, file.path, *prompt, err);
    if (status == KV_OK) return KV_OK;
    kv_saved_prompt_free(*prompt);
    *prompt = NULL;
    return blame(e, task, err);
}

static kv_status check_system(const kv_evaluation *e, int64_t system, int64_t task, kv_error *err) {
    const char *pattern = e->config->tasks[task].prompt_cache;
    kv_shared_file file;
    kv_saved_prompt *prompt;
    kv_status status = kv_shared_file_find(e, system, task, &file, err);
    if (status == KV_OK && !file.there && !strstr(pattern, placeholder) && e->config->n_systems > 1) {
        kv_fail(err, KV_ERR_ARGUMENT,
                "%s is not there, and one file cannot be made for %u systems: expected %s in its path",
                pattern, e->config->n_systems, placeholder);
        return blame(e, task, err);
    }
    if (status == KV_OK) status = kv_shared_prompt_open(e, system, task, &prompt, err);
    if (status == KV_OK) kv_saved_prompt_free(prompt);
    return status;
}

static kv_status check_task(const kv_evaluation *e, int64_t task, kv_error *err) {
    const kv_eval_task *row = &e->config->tasks[task];
    const kv_benchmark *b = e->benchmarks[task];
    char key[KV_EVAL_KEY];
    bool any = false;
    if (!row->prompt_cache) return KV_OK;
    kv_eval_list_key(key, "tasks", (unsigned)task, "prompt_cache");
    if (!generates(b))
        return kv_config_fail(e->source, err, key, "found %s, expected none: kind: %s generates no answers",
                              row->prompt_cache, row->kind);
    for (unsigned s = 0; s < e->config->n_systems; s++) {
        kv_shared_file file;
        kv_status status = check_system(e, s, task, err);
        if (status == KV_OK) status = kv_shared_file_find(e, s, task, &file, err);
        if (status != KV_OK) return status;
        any = any || file.there;
    }
    if (!any && alike(b) < LEAST)
        kv_config_warn(e->source, key,
                       "without effect: tokens that all prompts begin with are %" PRIi64
                       ", expected %d or more; prompts are read whole",
                       alike(b), LEAST);
    return KV_OK;
}

kv_status kv_shared_prompts_check(const kv_evaluation *e, kv_error *err) {
    kv_status status = KV_OK;
    for (unsigned t = 0; t < e->config->n_tasks && status == KV_OK; t++) status = check_task(e, t, err);
    return status;
}

// ---- Those that are not --------------------------------------------------------------------------------

// The first prompt is read one token further than what is kept, as every other will be.
static kv_status read_alike(const kv_system *system, const kv_benchmark *b, int64_t n_tokens,
                            kv_saved_prompt **prompt, kv_error *err) {
    const int64_t n = n_tokens + 1;
    kv_session *session;
    kv_status status = kv_session_create_turns(system, 1, n, &session, err);
    if (status != KV_OK) return status;
    float *logits = malloc((size_t)kv_session_vocab_size(session) * sizeof *logits);
    status = logits ? kv_session_prefill(session, b->items[0].ids, &n, logits, err)
                    : kv_fail(err, KV_ERR_MEMORY, "out of memory for logits");
    free(logits);
    if (status == KV_OK) {
        kv_session_rewind(session, n_tokens);
        status = kv_session_save(session, 0, prompt, err);
    }
    kv_session_free(session);
    return status;
}

// A system that gives no numbers has no such file; what it is asked will say so.
static kv_status make(const kv_evaluation *e, int64_t system, int64_t task, const kv_shared_file *file,
                      kv_error *err) {
    const kv_eval_task *row = &e->config->tasks[task];
    kv_saved_prompt *prompt = NULL;
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    kv_status status =
        read_alike(&e->systems->items[system], e->benchmarks[task], file->n_tokens, &prompt, err);
    if (status == KV_OK && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (status == KV_OK) {
        kv_systems_maker(e->systems, system, e->tokenizer, &prompt->maker);
        status = kv_saved_prompt_write(file->path, prompt, err);
    }
    kv_saved_prompt_free(prompt);
    if (status == KV_ERR_NOT_FINITE) return KV_OK;
    if (status == KV_ERR_INTERRUPTED) return status;
    if (status != KV_OK) return blame(e, task, err);
    kv_fold_complaint("the %" PRIi64
                      " tokens that all prompts of %s begin with are read by `%s`, and saved in %s",
                      file->n_tokens, row->name, e->config->systems[system].name, file->path);
    return KV_OK;
}

static kv_status make_all(const kv_evaluation *e, kv_error *err) {
    kv_status status = KV_OK;
    for (unsigned t = 0; t < e->config->n_tasks; t++)
        for (unsigned s = 0; s < e->config->n_systems && status == KV_OK; s++) {
            kv_shared_file file;
            status = kv_shared_file_find(e, s, t, &file, err);
            if (status == KV_OK && file.used && !file.there) status = make(e, s, t, &file, err);
        }
    return status;
}

// What one machine wrote another may see a while later.
static kv_status await(const kv_evaluation *e, int64_t system, int64_t task, bool there, kv_error *err) {
    static const double patience = 90;
    const double begun = kv_now();
    kv_shared_file file;
    kv_status status = kv_shared_file_find(e, system, task, &file, err);
    while (status == KV_OK && file.there != there && kv_now() < begun + patience) {
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        kv_console_poll(NULL, 0, 0.1);
        status = kv_shared_file_find(e, system, task, &file, err);
    }
    if (status != KV_OK || file.there == there) return status;
    kv_fail(err, KV_ERR_MISMATCH,
            "%s is there for %s: expected a place that all machines share, and the same file on each",
            file.path, there ? "rank 0 and not here" : "this rank and not for rank 0");
    return blame(e, task, err);
}

// That no rank reads as a whole what others go on from.
static kv_status await_all(const kv_evaluation *e, kv_error *err) {
    const int64_t n_systems = e->config->n_systems, n = n_systems * e->config->n_tasks;
    bool *there = calloc((size_t)n + 1, sizeof *there);
    kv_status status = there ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_shared_file file;
    for (int64_t i = 0; i < n && status == KV_OK && kv_rank_leads(); i++) {
        status = kv_shared_file_find(e, i % n_systems, i / n_systems, &file, err);
        there[i] = file.there;
    }
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) kv_ranks_broadcast(there, (size_t)n * sizeof *there, 0);
    for (int64_t i = 0; i < n && status == KV_OK; i++)
        status = await(e, i % n_systems, i / n_systems, there[i], err);
    free(there);
    return status;
}

kv_status kv_shared_prompts_make(const kv_evaluation *e, kv_error *err) {
    kv_status status = kv_ranks_agree(kv_rank_leads() ? make_all(e, err) : KV_OK, err);
    if (status != KV_OK || kv_n_ranks() == 1) return status;
    status = await_all(e, err);
    return kv_ranks_agree(status, err);
}
