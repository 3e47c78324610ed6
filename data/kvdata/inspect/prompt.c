// kvdata inspect: prompts that were read and saved.
#include "data/kvdata/inspect/inspect.h"
#include "data/prompt/saved_prompt.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void report_model(const char *key, const char *fingerprint, const char *source, int64_t n_layers,
                         inspect_report *report) {
    char text[INSPECT_SHORT];
    if (!*fingerprint) {
        inspect_fact(report, key, json_null(), "none");
        return;
    }
    json_t *about = json_pack("{s:s, s:s, s:I}", "fingerprint", fingerprint, "source", source, "layers",
                              (json_int_t)n_layers);
    inspect_fact(report, key, about, "%s, from %s", fingerprint, inspect_short(source, 200, text));
}

static int64_t count_predicted(const kv_saved_prompt *p) {
    int64_t n = 0;
    for (int64_t t = 0; t < p->n_rows; t++) n += p->predicted[t];
    return n;
}

// Read as kvrun would, so that what is damaged shows here.
kv_status inspect_prompt(const char *path, inspect_report *report, kv_error *err) {
    kv_saved_prompt *p;
    char size[32], token[32], text[INSPECT_SHORT];
    kv_status status = kv_saved_prompt_read(path, &p, err);
    if (status != KV_OK) return status;
    const double bytes = kv_saved_prompt_bytes(p);
    const int64_t n_predicted = count_predicted(p);
    inspect_title(report, "saved prompt", path);
    inspect_fact(report, "tokens", json_integer(p->n_ids),
                 "%" PRIi64 ", entries of %" PRIi64 ", %" PRIi64 " of them predicted", p->n_ids, p->n_rows,
                 n_predicted);
    inspect_value(report, "entries", json_integer(p->n_rows));
    inspect_value(report, "predicted", json_integer(n_predicted));
    inspect_fact(report, "size", json_real(bytes), "%s, %s a token", inspect_bytes(bytes, size),
                 inspect_bytes(bytes / (double)p->n_ids, token));
    report_model("base", p->maker.base, p->maker.base_source, p->base.n_layers, report);
    report_model("aux", p->maker.aux, p->maker.aux_source, p->aux.n_layers, report);
    report_model("predictor", p->maker.predictor, p->maker.predictor_source, p->base.n_layers, report);
    if (p->aux.n_layers > 0)
        inspect_fact(report, "aux_read", json_integer(p->aux.n_rows),
                     "%" PRIi64 " tokens, kept of %" PRIi64 " of its layers", p->aux.n_rows, p->aux.n_layers);
    inspect_fact(report, "weights", json_string(p->maker.weights), "held as %s", p->maker.weights);
    inspect_fact(report, "tokenizer", json_string(p->maker.tokenizer), "%s",
                 *p->maker.tokenizer ? p->maker.tokenizer : "none");
    if (p->text)
        inspect_fact(report, "text", json_stringn(p->text, (size_t)p->n_text), "%s",
                     inspect_excerpt(p->text, (size_t)p->n_text, 200, text));
    kv_saved_prompt_free(p);
    return KV_OK;
}
