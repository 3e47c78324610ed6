// Joining is not averaging: systems and tasks are laid over each other where they are the same, and stand
// beside each other where they are not.
#include "eval/report/inputs.h"

#include "data/file/path.h"
#include "data/system/warning.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

// Tasks that go by one name and are not the same: questions were left out or cut for one, or the file has changed.
static void warn_of_tasks(const kv_results *results, const kv_results *more, const char *path) {
    for (int64_t j = 0; j < more->n_tasks; j++)
        for (int64_t i = 0; i < results->n_tasks; i++) {
            const kv_result_task *a = &results->tasks[i], *b = &more->tasks[j];
            char items[2][KV_TASK_ITEMS];
            if (strcmp(a->name, b->name) || strcmp(a->split, b->split) || !strcmp(a->hash, b->hash)) continue;
            kv_warn(
                "%s: %s, %s is not the task of that name before it: %s here, %s there, asked or scored otherwise; "
                "it stands beside it with a number, and the two cannot be compared",
                path, b->name, b->split, kv_task_items(b, items[0]), kv_task_items(a, items[1]));
        }
}

// Systems that go by one name and are the same but for what turned questions into tokens.
static void warn_of_tokenizers(const kv_results *results, const kv_results *more, const char *path) {
    for (int64_t j = 0; j < more->n_systems; j++)
        for (int64_t i = 0; i < results->n_systems; i++) {
            const kv_result_system *a = &results->systems[i], *b = &more->systems[j];
            if (strcmp(a->name, b->name) || strcmp(a->hash, b->hash) || !kv_result_tokenizers_differ(a, b))
                continue;
            kv_warn(
                "%s: its systems were asked with the tokenizer %.16s, those before it of the same names with %.16s "
                "(`%s`): they stand beside each other with a number, and cannot be compared; evaluate them with "
                "one `tokenizer`",
                path, b->tokenizer, a->tokenizer, a->name);
            return;
        }
}

// The file that a directory stands for; else what was named.
static kv_status find_file(const char *input, char path[PATH_MAX], kv_error *err) {
    struct stat info;
    if (stat(input, &info) != 0 || !S_ISDIR(info.st_mode))
        return snprintf(path, PATH_MAX, "%s", input) < PATH_MAX ? KV_OK : kv_path_too_long(input, err);
    if (!kv_path_exists_in(input, "results.h5"))
        return kv_fail(
            err, KV_ERR_IO,
            "%s: found a directory without results.h5, expected one that an evaluation has left (one that "
            "was stopped has none yet: the same kveval command goes on)",
            input);
    return kv_path_join(input, "results.h5", path, err);
}

static kv_status read_one(const char *input, kv_results *results, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = find_file(input, path, err);
    return status == KV_OK ? kv_results_read_h5(path, results, err) : status;
}

kv_status kv_report_read(const char *const *inputs, int n_inputs, kv_results *results, kv_error *err) {
    kv_status status = read_one(inputs[0], results, err);
    for (int i = 1; i < n_inputs && status == KV_OK; i++) {
        kv_results more;
        status = read_one(inputs[i], &more, err);
        if (status != KV_OK) break;
        if (results->analysis.corpus && more.analysis.corpus &&
            !kv_analysis_same(&results->analysis, &more.analysis))
            fprintf(stderr,
                    "kveval: note: predicted caches in %s are left out: they are of %s, those before of %s "
                    "(or read in another way)\n",
                    inputs[i], more.analysis.corpus, results->analysis.corpus);
        warn_of_tasks(results, &more, inputs[i]);
        warn_of_tokenizers(results, &more, inputs[i]);
        status = kv_results_join(results, &more, err);
        kv_results_free(&more);
    }
    return status;
}
