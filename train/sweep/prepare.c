// What must be there before the first run begins is trained in order, as it may stand on each other.
#include "core/text.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "train/sweep/child.h"
#include "train/sweep/sweeper.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

// One configuration with all its seeds, which know nothing of each other: as many are trained at a time as there are jobs on all
// ranks together.
struct group {
    size_t first, end; // of sweep->prepared
    bool speaks, all;  // its trainings say what they do where we do; have all threads
    pid_t pids[KV_SWEEP_MAX_JOBS];
    size_t of[KV_SWEEP_MAX_JOBS], next, busy;
};

static kv_status at_prepare(const kv_sweep *sweep, const kv_sweep_prepared *p, kv_status code,
                            const char *message, kv_error *err) {
    return kv_fail(err, code, "%s:%zu: key `prepare`: %s", sweep->file.path, p->line, message);
}

static kv_status look_at(const kv_sweeper *s, const kv_sweep_prepared *p, bool *to_do, kv_error *err) {
    const kv_sweep *sweep = &s->sweep;
    kv_sweep_look look;
    kv_error inner = {0};
    kv_status status = kv_sweep_look_at_prepared(p, &look, &inner);
    if (status != KV_OK) return at_prepare(sweep, p, status, inner.message, err);
    if (look.changed) return at_prepare(sweep, p, KV_ERR_MISMATCH, look.why_changed, err);
    *to_do = look.state != KV_SWEEP_DONE;
    if (!look.longer) return KV_OK;
    // Runs that are there may stand on the shorter one.
    snprintf(inner.message, sizeof inner.message,
             "%.*s, which other runs may stand on, expected as many (kvtrain %.*s --resume makes it longer)",
             KV_HEAD(look.why_changed, 400), KV_HEAD(p->path, 200));
    return at_prepare(sweep, p, KV_ERR_MISMATCH, inner.message, err);
}

// Among shares: only who holds the lock may look, as what another trains changes under one's eyes.
static kv_status take(kv_sweeper *s, const kv_sweep_prepared *p, bool *to_do, kv_error *err) {
    *to_do = false;
    if (!p->wanted) return KV_OK;
    kv_status status = s->args->share.n ? kv_sweep_lock_await(&s->lock, p->output, err) : KV_OK;
    if (status == KV_OK) status = look_at(s, p, to_do, err);
    if (s->args->share.n && !*to_do) kv_sweep_lock_drop(&s->lock, p->output);
    return status;
}

static const char *log_path(const kv_sweeper *s, const struct group *g, const kv_sweep_prepared *p,
                            char path[PATH_MAX]) {
    const char *slash = strrchr(p->path, '/');
    char name[300];
    snprintf(name, sizeof name, "logs/prepare-%.*s-%s.log", KV_HEAD(slash ? slash + 1 : p->path, 200),
             p->override);
    return !g->speaks && kv_path_join(s->sweep.output, name, path, NULL) == KV_OK ? path : NULL;
}

static kv_status start(const kv_sweeper *s, const struct group *g, size_t i, pid_t *child, kv_error *err) {
    const kv_sweep_prepared *p = &s->sweep.prepared[i];
    char path[PATH_MAX];
    const int64_t threads = omp_get_max_threads() / s->args->jobs;
    const char *const overrides[] = {p->override};
    const kv_sweep_start start = {.config = p->path,
                                  .overrides = overrides,
                                  .n = p->seed != NULL,
                                  .threads = g->all ? 0 : (int)(threads > 1 ? threads : 1),
                                  .log = log_path(s, g, p, path)};
    fprintf(stderr, "kvtrain: %s%s%s, which %s start from (%zu of %zu)\n", p->path, p->seed ? ", " : "",
            p->override, p->seed ? "the runs of this seed" : "the runs", i + 1, s->sweep.n_prepared);
    return kv_sweeper_start(s, &start, child, err);
}

static kv_status failed(const kv_sweeper *s, const struct group *g, const kv_sweep_prepared *p,
                        kv_error *err) {
    char path[PATH_MAX], message[PATH_MAX + 100];
    const char *log = log_path(s, g, p, path);
    snprintf(message, sizeof message, "its training%s%s failed, so no run can begin%s%s",
             p->seed ? " with " : "", p->override, log ? ", see " : "", log ? log : "");
    return at_prepare(&s->sweep, p, KV_ERR_MISMATCH, message, err);
}

// The next of this rank's that is to be trained, on the free place j.
static kv_status start_next(kv_sweeper *s, struct group *g, size_t j, kv_error *err) {
    bool to_do = false;
    kv_status status = KV_OK;
    while (!to_do && status == KV_OK && g->next < g->end) {
        const size_t i = g->of[j] = g->next++;
        if ((i - g->first) % (size_t)kv_n_ranks() != (size_t)kv_rank()) continue;
        status = take(s, &s->sweep.prepared[i], &to_do, err);
    }
    if (to_do && status == KV_OK) status = start(s, g, g->of[j], &g->pids[j], err);
    g->busy += g->pids[j] != 0;
    return status;
}

static kv_status train_group(kv_sweeper *s, struct group *g, kv_error *err) {
    const size_t n_jobs = (size_t)s->args->jobs;
    kv_status status = KV_OK;
    for (;;) {
        for (size_t j = 0; j < n_jobs && status == KV_OK && !kv_console_interrupted(); j++)
            if (!g->pids[j]) status = start_next(s, g, j, err);
        if (g->busy == 0) break;
        int code;
        const size_t j = kv_child_wait(g->pids, n_jobs, &s->told, &code);
        const kv_sweep_prepared *p = &s->sweep.prepared[g->of[j]];
        g->pids[j] = 0;
        g->busy--;
        if (s->args->share.n) kv_sweep_lock_drop(&s->lock, p->output);
        if (code != 0 && status == KV_OK && !kv_console_interrupted()) status = failed(s, g, p, err);
    }
    return status == KV_OK && kv_console_interrupted() ? kv_sweeper_interrupted(err) : status;
}

kv_status kv_sweeper_prepare(kv_sweeper *s, kv_error *err) {
    const kv_sweep *sweep = &s->sweep;
    kv_status status = KV_OK;
    for (size_t first = 0, end; status == KV_OK && first < sweep->n_prepared; first = end) {
        for (end = first + 1;
             end < sweep->n_prepared && sweep->prepared[end].path == sweep->prepared[first].path;)
            end++;
        struct group g = {
            .first = first, .next = first, .end = end, .all = s->args->jobs == 1 || end == first + 1};
        g.speaks = g.all && (kv_n_ranks() == 1 || end == first + 1);
        status = kv_sweeper_agree(train_group(s, &g, err), err);
    }
    return status;
}
