// sweep.yaml: what a sweep's directory says about itself.
#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/file/hash.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "train/sweep/sweeper.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_text(FILE *out, const char *key, const char *text) {
    fprintf(out, "%s: ", key);
    kv_yaml_quote(out, text);
    fputc('\n', out);
}

// Without the last, which is the directory.
static void put_settings(FILE *out, const kv_sweep_run *run) {
    fputs("    set: [", out);
    for (size_t i = 0; i + 1 < run->n_overrides; i++) {
        if (i > 0) fputs(", ", out);
        kv_yaml_quote(out, run->overrides[i]);
    }
    fputs("]\n", out);
}

static void put_all(FILE *out, const kv_sweep *sweep) {
    fputs(
        "# Written by kvtrain --sweep: what it expanded its file to. Each run is a directory beside this file.\n",
        out);
    put_text(out, "sweep", sweep->file.path);
    put_text(out, "output", sweep->output);
    if (sweep->file.eval) put_text(out, "eval", sweep->file.eval);
    fputs("runs:\n", out);
    for (size_t i = 0; i < sweep->n_runs; i++) {
        const kv_sweep_run *run = &sweep->runs[i];
        put_text(out, "  - name", run->name);
        if (run->arm->name) put_text(out, "    arm", run->arm->name);
        if (run->seed) put_text(out, "    row", run->row);
        if (run->seed) fprintf(out, "    seed: %" PRIu64 "\n", *run->seed);
        fprintf(out, "    task: %s\n", run->config->task == KV_TASK_LM ? "lm" : "kvp");
        fprintf(out, "    steps: %" PRIi64 "\n", run->config->train.steps);
        put_text(out, "    train", run->train);
        put_settings(out, run);
    }
}

static bool is_there(const char *path, const char *text) {
    char *found = NULL;
    size_t size;
    const bool same = kv_path_exists(path) &&
                      kv_read_file(path, (size_t)1 << 24, &found, &size, NULL) == KV_OK &&
                      strcmp(found, text) == 0;
    free(found);
    return same;
}

// Shares all write the same, one after the other.
static kv_status write_text(kv_sweeper *s, const char *text, kv_error *err) {
    static const char name[] = "sweep.yaml";
    const bool shared = s->args->share.n > 0;
    char path[PATH_MAX];
    kv_status status = kv_path_join(s->sweep.output, name, path, err);
    if (status == KV_OK && shared) status = kv_sweep_lock_await(&s->lock, name, err);
    if (status != KV_OK) return status;
    if (!is_there(path, text)) status = kv_write_file(path, text, strlen(text), err);
    if (shared) kv_sweep_lock_drop(&s->lock, name);
    return status;
}

kv_status kv_sweeper_write_list(kv_sweeper *s, kv_error *err) {
    char *text = NULL, hash[17] = "";
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out) put_all(out, &s->sweep);
    kv_status status =
        out && fclose(out) == 0 ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the sweep");
    status = kv_sweeper_agree(status, err);
    if (status == KV_OK) {
        kv_hash_text(kv_hash64(0, text, size), hash);
        status = kv_ranks_same("what the sweep's file is expanded to", hash, err);
    }
    if (status == KV_OK) status = kv_sweeper_agree(kv_rank_leads() ? write_text(s, text, err) : KV_OK, err);
    free(text);
    return status;
}
