// Figures of an answer, for people and for programs.
#include "infer/cost.h"
#include "infer/kvrun/kvrun.h"

#include <jansson.h>

char *kvrun_seconds(double seconds, char text[32]) {
    if (seconds < 1)
        snprintf(text, 32, "%.*f ms", seconds < 0.1 ? 2 : 1, 1e3 * seconds);
    else
        snprintf(text, 32, "%.2f s", seconds);
    return text;
}

char *kvrun_flops(uint64_t flops, char text[32]) {
    const double giga = 1e-9 * (double)flops;
    if (giga < 0.1)
        snprintf(text, 32, "%.2f MFLOPs", 1e3 * giga);
    else
        snprintf(text, 32, "%.*f GFLOPs", giga < 100 ? 2 : 0, giga);
    return text;
}

const char *kvrun_system_name(const kv_system *system) {
    if (system->predictor) return "KVP";
    return system->pruning.kind == KV_PRUNE_NONE ? "base" : "pruned";
}

// Up to the first token; what was loaded costs nothing.
static uint64_t first_flops(const kvrun_answer *a, const kv_system *system, int64_t n_prompt) {
    return kv_system_turn_flops(system, n_prompt - a->n_loaded, a->n_loaded, a->n_unread);
}

void kvrun_show_figures(const kvrun_answer *answer, const kv_system *system, int64_t n_prompt) {
    char ttft[32], flops[32], load[32];
    if (answer->n_loaded > 0)
        fprintf(stderr, "[%lld of %lld tokens of prompt loaded in %s]\n", (long long)answer->n_loaded,
                (long long)n_prompt, kvrun_seconds(answer->load_seconds, load));
    fprintf(stderr, "[%s%s: first token after %s and %s for %lld tokens of prompt; %lld tokens",
            kvrun_system_name(system), system->predictor && system->predictor->tabulated ? ", tabulated" : "",
            kvrun_seconds(answer->ttft, ttft), kvrun_flops(first_flops(answer, system, n_prompt), flops),
            (long long)(n_prompt - answer->n_loaded), (long long)answer->n);
    if (answer->tokens_per_second > 0) fprintf(stderr, ", %.1f a second", answer->tokens_per_second);
    fprintf(stderr, "; ended by %s]\n", answer->finish);
}

json_t *kvrun_ids_json(const int32_t *ids, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n && list; i++)
        if (json_array_append_new(list, json_integer(ids[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

json_t *kvrun_answer_json(const kvrun_answer *answer, const kv_system *system, int64_t n_prompt) {
    static const char *const names[] = {"base", "kvp", "pruned"};
    const int kind = system->predictor ? 1 : system->pruning.kind == KV_PRUNE_NONE ? 0 : 2;
    json_t *text = answer->text ? json_stringn(answer->text, answer->length) : json_null();
    json_t *rate = answer->tokens_per_second > 0 ? json_real(answer->tokens_per_second) : json_null();
    const bool tabulated = system->predictor && system->predictor->tabulated;
    const int64_t n_read = n_prompt - answer->n_loaded;
    const uint64_t flops = first_flops(answer, system, n_prompt), whole = kv_system_flops(system, n_read);
    json_t *object = json_pack(
        "{s:s, s:o, s:o, s:s, s:f, s:o, s:I, s:I, s:I, s:I, s:b}", "system", names[kind], "text", text, "ids",
        kvrun_ids_json(answer->ids, answer->n), "finish", answer->finish, "ttft_seconds", answer->ttft,
        "tokens_per_second", rate, "flops_to_first_token", (json_int_t)flops, "flops_computed",
        (json_int_t)(flops + kv_system_flops_computed(system, n_read) - whole), "flops_looked_up",
        (json_int_t)(flops + kv_system_flops_looked_up(system, n_read) - whole), "lookups_per_token",
        (json_int_t)kv_system_lookups(system), "tabulated", tabulated);
    if (answer->n_loaded == 0 || !object) return object;
    if (json_object_set_new(object, "tokens_loaded", json_integer(answer->n_loaded)) == 0 &&
        json_object_set_new(object, "load_seconds", json_real(answer->load_seconds)) == 0)
        return object;
    json_decref(object);
    return NULL;
}
