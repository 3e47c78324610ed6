// What a run's checkpoints cannot know: time that was spent behind the last one.
#include "train/run/starts.h"

#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/path.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char starts_name[] = "starts.json";
const char kv_run_machines_name[] = "machines.jsonl";

// The list; NULL: there is none that can be read.
static json_t *read_list(const char *run) {
    kv_json_file file = {0};
    json_t *list = NULL;
    if (kv_path_exists_in(run, starts_name) && kv_json_open(run, starts_name, &file, NULL) == KV_OK)
        list = json_incref(json_object_get(file.root, "starts"));
    kv_json_close(&file);
    if (json_is_array(list)) return list;
    json_decref(list);
    return NULL;
}

void kv_run_starts_read(const char *run, kv_run_starts *starts) {
    json_t *list = read_list(run);
    *starts = (kv_run_starts){.n = (int64_t)json_array_size(list), .step = -1};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *start = json_array_get(list, i), *step = json_object_get(start, "step");
        const double lost = json_number_value(json_object_get(start, "lost_seconds"));
        if (lost > 0) starts->lost += lost;
        starts->step = json_is_integer(step) ? json_integer_value(step) : -1;
    }
    json_decref(list);
}

// Of the lines the last one stays.
static kv_status take_place(void *context, const json_t *start, const char *where, kv_error *err) {
    (void)where, (void)err;
    *(kv_run_place *)context = (kv_run_place){json_integer_value(json_object_get(start, "ranks")),
                                              json_integer_value(json_object_get(start, "nodes")),
                                              json_integer_value(json_object_get(start, "threads"))};
    return KV_OK;
}

void kv_run_place_read(const char *run, kv_run_place *place) {
    char path[PATH_MAX], *text = NULL;
    size_t size;
    *place = (kv_run_place){0};
    if (kv_path_join(run, kv_run_machines_name, path, NULL) == KV_OK &&
        kv_read_file(path, (size_t)1 << 24, &text, &size, NULL) == KV_OK)
        kv_json_lines(path, text, size, 0, "start", take_place, place, NULL);
    free(text);
}

kv_status kv_run_starts_add(const char *run, int64_t step, double lost, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(run, starts_name, path, err);
    if (status != KV_OK) return status;
    json_t *list = read_list(run);
    if (!list) list = json_array();
    json_array_append_new(list, json_pack("{s:I, s:f}", "step", (json_int_t)step, "lost_seconds", lost));
    return kv_json_write(path, json_pack("{s:o}", "starts", list), JSON_INDENT(2) | JSON_REAL_PRECISION(9),
                         err);
}

// The number behind `key` in a line, 0 without.
static double number_at(const char *line, const char *end, const char *key) {
    const char *at = memmem(line, (size_t)(end - line), key, strlen(key));
    const double value = at ? strtod(at + strlen(key), NULL) : 0;
    return isfinite(value) && value > 0 ? value : 0;
}

static double stopped_after(const char *run) {
    kv_json_file file = {0};
    double seconds = 0;
    if (kv_path_exists_in(run, "stopped.json") && kv_json_open(run, "stopped.json", &file, NULL) == KV_OK)
        seconds = json_number_value(json_object_get(file.root, "seconds"));
    kv_json_close(&file);
    return isfinite(seconds) ? seconds : 0;
}

double kv_run_seconds_lost(const char *run, const char *text, size_t size, double seconds) {
    const char *const all = text + size;
    double spent = stopped_after(run), validated = 0;
    for (const char *line = text, *end; (end = memchr(line, '\n', (size_t)(all - line))); line = end + 1) {
        spent = fmax(spent, number_at(line, end, "\"seconds\": "));
        validated += number_at(line, end, "\"validation_seconds\": ");
    }
    return fmax(spent - seconds, 0) + validated;
}
