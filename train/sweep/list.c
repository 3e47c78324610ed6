// sweep.yaml: what a sweep's directory says about itself.
#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/file/path.h"
#include "train/sweep/sweep.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void put(FILE *out, const char *key, const char *text) {
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
    put(out, "sweep", sweep->file.path);
    put(out, "output", sweep->output);
    if (sweep->file.eval) put(out, "eval", sweep->file.eval);
    fputs("runs:\n", out);
    for (size_t i = 0; i < sweep->n_runs; i++) {
        const kv_sweep_run *run = &sweep->runs[i];
        put(out, "  - name", run->name);
        if (run->arm->name) put(out, "    arm", run->arm->name);
        fprintf(out, "    task: %s\n", run->config->task == KV_TASK_LM ? "lm" : "kvp");
        fprintf(out, "    steps: %" PRIi64 "\n", run->config->train.steps);
        put(out, "    train", run->train);
        put_settings(out, run);
    }
}

kv_status kv_sweep_write_list(const kv_sweep *sweep, kv_error *err) {
    char path[PATH_MAX], *text = NULL;
    size_t size;
    kv_status status = kv_path_join(sweep->output, "sweep.yaml", path, err);
    if (status != KV_OK) return status;
    FILE *out = open_memstream(&text, &size);
    if (out) put_all(out, sweep);
    if (!out || fclose(out) != 0) {
        free(text);
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    status = kv_write_file(path, text, size, err);
    free(text);
    return status;
}
