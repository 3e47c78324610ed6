// Which rows and tasks of several evaluations are the same.
#include "eval/seeds/seeds.h"

#include "data/file/path.h"
#include "data/system/warning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static kv_status no_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the seeds");
}

// ---- Reading -------------------------------------------------------------------------------------------

static kv_status read_run(kv_seeds *s, const char *path, kv_error *err) {
    char file[PATH_MAX];
    struct stat info;
    const bool is_dir = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    // What kveval seeds has left itself: a pattern of names, s*, takes it along.
    if (is_dir && !kv_path_exists_in(path, "results.h5") && kv_path_exists_in(path, "seeds.csv")) {
        fprintf(stderr, "kveval: note: %s is left out: means over seeds, and no evaluation\n", path);
        return KV_OK;
    }
    kv_status status = is_dir ? kv_path_join(path, "results.h5", file, err) : KV_OK;
    if (status != KV_OK) return status;
    s->paths[s->n] = strdup(is_dir ? file : path);
    if (!s->paths[s->n]) return no_memory(err);
    status = kv_results_read_h5(s->paths[s->n], &s->runs[s->n], err);
    if (status == KV_OK) s->n++;
    return status;
}

// ---- Tasks ---------------------------------------------------------------------------------------------

static int64_t find_task(const kv_results *run, const kv_result_task *like) {
    for (int64_t t = 0; t < run->n_tasks; t++)
        if (!strcmp(run->tasks[t].name, like->name) && !strcmp(run->tasks[t].split, like->split)) return t;
    return -1;
}

static bool same_metrics(const kv_result_task *a, const kv_result_task *b) {
    bool same = a->n_metrics == b->n_metrics;
    for (int m = 0; same && m < a->n_metrics; m++) same = !strcmp(a->metrics[m], b->metrics[m]);
    return same;
}

static kv_status check_task(const kv_seeds *s, int64_t run, const kv_result_task *here,
                            const kv_result_task *first, kv_error *err) {
    const char *path = s->paths[run], *before = s->paths[0];
    if (strcmp(here->kind, first->kind) != 0)
        return kv_fail(err, KV_ERR_MISMATCH, "%s: task %s, %s is of kind %s, expected %s as in %s", path,
                       here->name, here->split, here->kind, first->kind, before);
    if (!same_metrics(here, first))
        return kv_fail(err, KV_ERR_MISMATCH,
                       "%s: task %s, %s has other metrics than in %s, expected the same", path, here->name,
                       here->split, before);
    if (here->shots != first->shots)
        return kv_fail(err, KV_ERR_MISMATCH,
                       "%s: task %s, %s was asked with %lld shots, expected %lld as in %s", path, here->name,
                       here->split, (long long)here->shots, (long long)first->shots, before);
    if (here->shots_once != first->shots_once)
        return kv_fail(err, KV_ERR_MISMATCH,
                       "%s: task %s, %s was asked with examples drawn %s, expected %s as in %s", path,
                       here->name, here->split, here->shots_once ? "once" : "for each question",
                       first->shots_once ? "once" : "for each question", before);
    if (here->chat != first->chat)
        return kv_fail(err, KV_ERR_MISMATCH, "%s: task %s, %s was asked %s, but %s in %s, expected the same",
                       path, here->name, here->split, here->chat ? "as a chat" : "without a chat",
                       first->chat ? "as a chat" : "without one", before);
    return KV_OK;
}

// A training may fail and leave a row out; a task is left out by the configuration.
static kv_status match_tasks(kv_seeds *s, kv_error *err) {
    const kv_results *first = &s->runs[0];
    if (first->n_tasks == 0)
        return kv_fail(err, KV_ERR_MISMATCH, "%s: found no tasks, expected answers to compare", s->paths[0]);
    s->n_tasks = first->n_tasks;
    s->tasks = calloc((size_t)(s->n_tasks * s->n) + 1, sizeof *s->tasks);
    if (!s->tasks) return no_memory(err);
    for (int64_t i = 0; i < s->n; i++) {
        for (int64_t t = 0; t < first->n_tasks; t++) {
            const int64_t at = find_task(&s->runs[i], &first->tasks[t]);
            if (at < 0)
                return kv_fail(err, KV_ERR_MISMATCH, "%s: found no task %s, %s, expected it as in %s",
                               s->paths[i], first->tasks[t].name, first->tasks[t].split, s->paths[0]);
            s->tasks[t * s->n + i] = at;
            const kv_status status = check_task(s, i, &s->runs[i].tasks[at], &first->tasks[t], err);
            if (status != KV_OK) return status;
        }
        for (int64_t t = 0; t < s->runs[i].n_tasks; t++) {
            const kv_result_task *own = &s->runs[i].tasks[t];
            if (find_task(first, own) < 0)
                return kv_fail(err, KV_ERR_MISMATCH, "%s: found a task %s, %s, which is not in %s",
                               s->paths[i], own->name, own->split, s->paths[0]);
        }
    }
    return KV_OK;
}

// ---- Systems -------------------------------------------------------------------------------------------

int64_t kv_seeds_find(const kv_seeds *s, const char *name) {
    for (int64_t i = 0; i < s->n_systems; i++)
        if (!strcmp(s->systems[i].name, name)) return i;
    return -1;
}

static kv_status add_system(kv_seeds *s, const kv_result_system *from, kv_error *err) {
    kv_seed_system *own = &s->systems[s->n_systems];
    *own = (kv_seed_system){.name = from->name, .family = from->family, .base = -1};
    own->at = malloc((size_t)s->n * sizeof *own->at);
    if (!own->at) return no_memory(err);
    for (int64_t i = 0; i < s->n; i++) own->at[i] = -1;
    s->n_systems++;
    return KV_OK;
}

// Every row of an evaluation, with the base it has there.
static kv_status match_run(kv_seeds *s, int64_t run, kv_error *err) {
    const kv_results *r = &s->runs[run];
    for (int64_t i = 0; i < r->n_systems; i++) {
        int64_t at = kv_seeds_find(s, r->systems[i].name);
        if (at < 0) {
            const kv_status status = add_system(s, &r->systems[i], err);
            if (status != KV_OK) return status;
            at = s->n_systems - 1;
        }
        s->systems[at].at[run] = i;
    }
    for (int64_t i = 0; i < r->n_systems; i++) {
        kv_seed_system *own = &s->systems[kv_seeds_find(s, r->systems[i].name)];
        const int64_t base = kv_seeds_find(s, r->systems[r->systems[i].base].name);
        if (own->base >= 0 && own->base != base)
            return kv_fail(err, KV_ERR_MISMATCH,
                           "%s: %s is compared with %s, expected %s as in the evaluations before it",
                           s->paths[run], own->name, s->systems[base].name, s->systems[own->base].name);
        own->base = base;
    }
    return KV_OK;
}

static kv_status match_systems(kv_seeds *s, kv_error *err) {
    int64_t room = 0;
    for (int64_t i = 0; i < s->n; i++) room += s->runs[i].n_systems;
    s->systems = calloc((size_t)room + 1, sizeof *s->systems);
    if (!s->systems) return no_memory(err);
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t before = s->n_systems;
        const kv_status status = match_run(s, i, err);
        if (status != KV_OK) return status;
        if (i > 0 && s->n_systems == before + s->runs[i].n_systems)
            return kv_fail(err, KV_ERR_MISMATCH,
                           "%s: found no system of those in %s (`%s`, …), expected the same names",
                           s->paths[i], s->paths[0], s->systems[0].name);
    }
    return KV_OK;
}

// ---- Not twice the same --------------------------------------------------------------------------------

static bool same_outcomes(const kv_results *a, const kv_results *b) {
    if (a->n_systems != b->n_systems || a->n_tasks != b->n_tasks) return false;
    for (int64_t s = 0; s < a->n_systems; s++)
        if (!*a->systems[s].hash || strcmp(a->systems[s].hash, b->systems[s].hash)) return false;
    for (int64_t t = 0; t < a->n_tasks; t++)
        if (strcmp(a->tasks[t].hash, b->tasks[t].hash) || !same_metrics(&a->tasks[t], &b->tasks[t]))
            return false;
    for (int64_t s = 0; s < a->n_systems; s++)
        for (int64_t t = 0; t < a->n_tasks; t++) {
            const kv_outcome *x = kv_results_outcome(a, s, t), *y = kv_results_outcome(b, s, t);
            const size_t n = (size_t)(a->tasks[t].n_metrics * a->tasks[t].n_items);
            if (a->tasks[t].n_items != b->tasks[t].n_items || !x->values != !y->values) return false;
            if (x->values && memcmp(x->values, y->values, n * sizeof *x->values)) return false;
        }
    return true;
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// It would count as a second seed that agrees with the first. Where nothing is drawn at random it may be one.
static kv_status check_twice(const kv_seeds *s, kv_error *err) {
    for (int64_t j = 1; j < s->n; j++)
        for (int64_t i = 0; i < j; i++) {
            if (same_file(s->paths[i], s->paths[j]))
                return kv_fail(err, KV_ERR_MISMATCH,
                               "%s: found twice, expected the evaluation of another seed", s->paths[j]);
            if (same_outcomes(&s->runs[i], &s->runs[j]))
                kv_warn(
                    "%s: the same models with the same answers as in %s: it counts as another seed, which agrees",
                    s->paths[j], s->paths[i]);
        }
    return KV_OK;
}

// ---- All of it -----------------------------------------------------------------------------------------

kv_status kv_seeds_open(char *const *paths, int64_t n, const char *line, kv_seeds *s, kv_error *err) {
    s->line = -1;
    s->runs = calloc((size_t)n + 1, sizeof *s->runs);
    s->paths = calloc((size_t)n + 1, sizeof *s->paths);
    kv_status status = s->runs && s->paths ? KV_OK : no_memory(err);
    for (int64_t i = 0; status == KV_OK && i < n; i++) status = read_run(s, paths[i], err);
    if (status == KV_OK && s->n == 0)
        status = kv_fail(err, KV_ERR_ARGUMENT, "found no evaluation, expected at least one");
    if (status == KV_OK) status = match_tasks(s, err);
    if (status == KV_OK) status = match_systems(s, err);
    if (status == KV_OK) status = check_twice(s, err);
    if (status != KV_OK || !line) return status;
    s->line = kv_seeds_find(s, line);
    return s->line >= 0
               ? KV_OK
               : kv_fail(err, KV_ERR_ARGUMENT, "--line: found '%s', expected the name of a system, as `%s`",
                         line, s->n_systems ? s->systems[0].name : "");
}

void kv_seeds_close(kv_seeds *s) {
    for (int64_t i = 0; i < s->n; i++) kv_results_free(&s->runs[i]);
    for (int64_t i = 0; s->paths && i <= s->n; i++)
        free(s->paths[i]); // also that of one that could not be read
    for (int64_t i = 0; i < s->n_systems; i++) free(s->systems[i].at);
    free(s->runs);
    free(s->paths);
    free(s->systems);
    free(s->tasks);
    *s = (kv_seeds){0};
}
