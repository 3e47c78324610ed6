// Figures without what they were made with cannot be made again. What a file does not say is "unknown", since that is worth
// knowing, too.
#include "eval/html/about.h"

#include "data/file/json.h"
#include "data/system/console.h"

#include <string.h>

// ---- What made each result -----------------------------------------------------------------------------

static const struct {
    const char *key, *text; // of data/file/made_by.h, and what a reader calls it
} facts[] = {
    {"program", "program"},   {"version", "version"},   {"commit", "commit"},      {"date", "date"},
    {"model", "machine"},     {"cpu", "CPU"},           {"flags", "instructions"}, {"isa", "multiplied by"},
    {"cores", "cores"},       {"threads", "threads"},   {"memory", "memory"},      {"os", "system"},
    {"compiler", "compiler"}, {"openblas", "OpenBLAS"}, {"hdf5", "HDF5"},          {"gnuplot", "gnuplot"}};

static void put_value(kv_html *html, const char *key, const json_t *value) {
    char text[32];
    if (json_is_integer(value) && !strcmp(key, "memory"))
        kv_html_format(html, "%sB", kv_count_text((double)json_integer_value(value), text));
    else if (json_is_integer(value))
        kv_html_format(html, "%lld", (long long)json_integer_value(value));
    else if (json_is_array(value)) {
        size_t i;
        const json_t *entry;
        json_array_foreach(value, i, entry) {
            kv_html_put(html, i ? " " : "");
            kv_html_text(html, json_string_value(entry));
        }
    } else
        kv_html_text(html, json_is_string(value) && *json_string_value(value) ? json_string_value(value)
                                                                              : "unknown");
}

// text: a JSON object; NULL: an older file does not say.
static void put_made_by(kv_html *html, const char *text) {
    json_t *made_by = text ? kv_json_parse(text, strlen(text), 0, NULL) : NULL;
    kv_html_put(html, "<dl class=\"made-by\">\n");
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        kv_html_put(html, "<dt>%s</dt><dd>", facts[i].text);
        put_value(html, facts[i].key, json_object_get(made_by, facts[i].key));
        kv_html_put(html, "</dd>\n");
    }
    kv_html_put(html, "</dl>\n");
    json_decref(made_by);
}

// ---- What was asked ------------------------------------------------------------------------------------

static void put_tasks(kv_html *html, const kv_results *r) {
    char items[KV_TASK_ITEMS];
    kv_html_put(html, "<h3>Tasks</h3>\n<dl>\n");
    for (int64_t t = 0; t < r->n_tasks; t++) {
        const kv_result_task *task = &r->tasks[t];
        kv_html_put(html, "<dt>");
        kv_html_format(html, "%s, %s", task->name, task->split);
        kv_html_put(html, "</dt><dd>");
        kv_html_format(html, "%s of %s, kind %s, shots %lld%s, content %s", kv_task_items(task, items),
                       task->file ? task->file : "unknown", task->kind ? task->kind : "unknown",
                       (long long)task->shots, task->shots_once ? " (the same for all)" : "",
                       *task->hash ? task->hash : "unknown");
        kv_html_put(html, "</dd>\n");
    }
    kv_html_put(html, "<dt>intervals</dt><dd>95 %%, bootstrap, %lld resamples, seed %llu</dd>\n</dl>\n",
                (long long)r->bootstrap, (unsigned long long)r->seed);
}

void kv_html_about(kv_html *html, const kv_results *r) {
    kv_html_put(html, "<section id=\"about\" class=\"about\"><h2>How it was made</h2>\n");
    if (r->n_made_by == 0) put_made_by(html, NULL);
    for (int64_t i = 0; i < r->n_made_by; i++) {
        if (r->n_made_by > 1) kv_html_put(html, "<h3>Evaluation %lld</h3>\n", (long long)i + 1);
        put_made_by(html, r->made_by[i]);
    }
    if (r->n_made_by > 0 && r->n_made_by < r->n_configs)
        kv_html_put(
            html,
            "<p class=\"note\">What made the other evaluations in here is unknown (%lld of %lld).</p>\n",
            (long long)(r->n_configs - r->n_made_by), (long long)r->n_configs);
    put_tasks(html, r);
    for (int64_t i = 0; i < r->n_configs; i++) {
        kv_html_put(html, "<details><summary>configuration%s", r->n_configs > 1 ? " " : "");
        if (r->n_configs > 1) kv_html_put(html, "%lld", (long long)i + 1);
        kv_html_put(html, "</summary><pre>");
        kv_html_lines(html, r->configs[i]);
        kv_html_put(html, "</pre></details>\n");
    }
    kv_html_put(html, "</section>\n");
}
