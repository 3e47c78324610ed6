// Figures without what they were made with cannot be made again.
#include "eval/html/about.h"

static void put_tasks(kv_html *html, const kv_results *r) {
    char items[KV_TASK_ITEMS];
    for (int64_t t = 0; t < r->n_tasks; t++) {
        const kv_result_task *task = &r->tasks[t];
        kv_html_put(html, "<dt>");
        kv_html_format(html, "%s, %s", task->name, task->split);
        kv_html_put(html, "</dt><dd>");
        kv_html_format(html, "%s of %s, kind %s, shots %lld, content %s", kv_task_items(task, items),
                       task->file ? task->file : "unknown", task->kind ? task->kind : "unknown",
                       (long long)task->shots, *task->hash ? task->hash : "unknown");
        kv_html_put(html, "</dd>\n");
    }
}

void kv_html_about(kv_html *html, const kv_results *r) {
    kv_html_put(html, "<section id=\"about\" class=\"about\"><h2>How it was made</h2>\n<dl>\n");
    put_tasks(html, r);
    kv_html_put(html, "<dt>intervals</dt><dd>95 %%, bootstrap, %lld resamples, seed %llu</dd>\n</dl>\n",
                (long long)r->bootstrap, (unsigned long long)r->seed);
    for (int64_t i = 0; i < r->n_configs; i++) {
        kv_html_put(html, "<details><summary>configuration%s", r->n_configs > 1 ? " " : "");
        if (r->n_configs > 1) kv_html_put(html, "%lld", (long long)i + 1);
        kv_html_put(html, "</summary><pre>");
        kv_html_lines(html, r->configs[i]);
        kv_html_put(html, "</pre></details>\n");
    }
    kv_html_put(html, "</section>\n");
}
