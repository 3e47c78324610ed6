// The same prompt by the base alone and by another system.
#include "infer/kvrun/kvrun.h"

#include "data/file/json.h"
#include "data/system/console.h"
#include "infer/cost.h"
#include "infer/ttft.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { narrowest = 60 }; // columns that two answers need

struct side {
    kv_system system;
    kvrun_answer answer;
    kv_ttft ttft; // over all prefills
};

struct comparison {
    const kvrun *run;
    int64_t n_prompt;
    struct side sides[2];
};

// ---- Running -------------------------------------------------------------------------------------------

static kv_status repeat_prefill(const kvrun *run, kv_session *session, const int32_t *ids, int64_t n,
                                struct side *side, kv_error *err) {
    const int64_t repeats = run->options.repeats;
    double *samples = malloc((size_t)repeats * sizeof *samples);
    if (!samples) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld repeats", (long long)repeats);
    samples[0] = side->answer.ttft;
    kv_status status = KV_OK;
    for (int64_t i = 1; i < repeats && status == KV_OK; i++) {
        status = kvrun_time_prefill(session, ids, n, &samples[i], err);
        if (status == KV_OK && kv_console_interrupted())
            status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    }
    if (status == KV_OK) side->ttft = kv_ttft_summary(samples, repeats);
    free(samples);
    return status;
}

static kv_status run_side(const kvrun *run, const int32_t *ids, int64_t n, struct side *side, kv_error *err) {
    kv_session *session;
    const int64_t most = run->options.max_tokens, room = run->context - n;
    if (!run->options.quiet && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s answers ...", kvrun_system_name(&side->system));
    kv_status status = kvrun_session(&side->system, n + (most < room ? most : room), &session, err);
    if (status == KV_OK) status = kvrun_answer_make(run, session, ids, n, false, NULL, &side->answer, err);
    if (status == KV_OK) status = repeat_prefill(run, session, ids, n, side, err);
    kv_session_free(session);
    if (!run->options.quiet && isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    return status;
}

// ---- Agreement -----------------------------------------------------------------------------------------

static int64_t common_prefix(const kvrun_answer *a, const kvrun_answer *b) {
    int64_t n = 0;
    while (n < a->n && n < b->n && a->ids[n] == b->ids[n]) n++;
    return n;
}

// Two that both ended at once agree as well.
static bool same_first(const kvrun_answer *a, const kvrun_answer *b) {
    if (a->n == 0 || b->n == 0) return a->n == b->n;
    return a->ids[0] == b->ids[0];
}

// ---- Showing -------------------------------------------------------------------------------------------

static char *as_ids(const kvrun_answer *answer) {
    char *text = malloc((size_t)answer->n * 12 + 1), *end = text;
    if (!text) return NULL;
    *end = '\0';
    for (int64_t i = 0; i < answer->n; i++) end += sprintf(end, i ? " %d" : "%d", answer->ids[i]);
    return text;
}

static void print_answers(const struct comparison *c, const char *const texts[2]) {
    struct winsize size;
    const char *const names[2] = {kvrun_system_name(&c->sides[0].system),
                                  kvrun_system_name(&c->sides[1].system)};
    const bool terminal = isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    if (terminal && size.ws_col >= narrowest) {
        kvrun_columns_print(stdout, size.ws_col, names, texts);
        return;
    }
    for (int i = 0; i < 2; i++) printf("%s%s:\n%s\n", i ? "\n" : "", names[i], texts[i]);
}

// What depends on the token alone may be computed or looked up: the other count, and how much is read from tables.
static void print_lookups(const struct comparison *c, const uint64_t flops[2]) {
    const kv_system *system = &c->sides[1].system;
    const uint64_t computed = kv_system_flops_computed(system, c->n_prompt),
                   looked_up = kv_system_flops_looked_up(system, c->n_prompt);
    char text[32];
    if (computed != flops[1])
        printf("%-30s %14s %14s  %.2fx\n", "  with nothing looked up", "", kvrun_flops(computed, text),
               (double)flops[0] / (double)computed);
    if (looked_up != flops[1])
        printf("%-30s %14s %14s  %.2fx\n", "  with tokens' part looked up", "", kvrun_flops(looked_up, text),
               (double)flops[0] / (double)looked_up);
    if (kv_system_lookups(system) > 0)
        printf("%-30s %14s %14lld\n", "  numbers looked up a token", "",
               (long long)kv_system_lookups(system));
}

static void print_figures(const struct comparison *c) {
    const struct side *base = &c->sides[0], *other = &c->sides[1];
    const uint64_t flops[2] = {kv_system_flops(&base->system, c->n_prompt),
                               kv_system_flops(&other->system, c->n_prompt)};
    char first[32], second[32], median[40] = "";
    const int64_t repeats = c->run->options.repeats;
    printf("\n%-30s %14s %14s\n", "", kvrun_system_name(&base->system), kvrun_system_name(&other->system));
    if (repeats > 1) snprintf(median, sizeof median, ", median of %lld", (long long)repeats);
    printf("time to first token%-11s", median);
    printf(" %14s %14s  %.2fx\n", kvrun_seconds(base->ttft.seconds, first),
           kvrun_seconds(other->ttft.seconds, second), base->ttft.seconds / other->ttft.seconds);
    printf("%-30s %14s %14s  %.2fx\n", "  exact FLOPs", kvrun_flops(flops[0], first),
           kvrun_flops(flops[1], second), (double)flops[0] / (double)flops[1]);
    print_lookups(c, flops);
    printf("%-30s %14s %14s  %.2fx\n", "  the paper's convention", "", "",
           kv_system_paper_reduction(&other->system, &base->system));
    printf("%-30s %14.1f %14.1f\n", "tokens/s behind the first", base->answer.tokens_per_second,
           other->answer.tokens_per_second);
    printf("%-30s %14lld %14lld\n", "tokens of the prompt", (long long)c->n_prompt, (long long)c->n_prompt);
    printf("%-30s %14lld %14lld\n", "tokens of the answer", (long long)base->answer.n,
           (long long)other->answer.n);
    printf("%-30s %14s %14s\n", "ended by", base->answer.finish, other->answer.finish);
    printf("first token %s; the first %lld tokens are the same\n",
           same_first(&base->answer, &other->answer) ? "the same" : "another",
           (long long)common_prefix(&base->answer, &other->answer));
}

static kv_status print_comparison(const struct comparison *c, kv_error *err) {
    char *ids[2] = {NULL, NULL};
    const char *texts[2] = {c->sides[0].answer.text, c->sides[1].answer.text};
    kv_status status = KV_OK;
    for (int i = 0; i < 2 && c->run->options.ids; i++) {
        texts[i] = ids[i] = as_ids(&c->sides[i].answer);
        if (!ids[i]) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for an answer");
    }
    if (status == KV_OK) {
        print_answers(c, texts);
        if (!c->run->options.quiet) print_figures(c);
    }
    free(ids[0]);
    free(ids[1]);
    return status;
}

static json_t *side_json(const struct side *side, int64_t n_prompt) {
    json_t *object = kvrun_answer_json(&side->answer, &side->system, n_prompt);
    if (object) json_object_set_new(object, "ttft_seconds", json_real(side->ttft.seconds));
    return object;
}

static kv_status put_json(const struct comparison *c, const int32_t *ids, kv_error *err) {
    const struct side *base = &c->sides[0], *other = &c->sides[1];
    json_t *object = json_pack("{s:o, s:o, s:o, s:I, s:b, s:I, s:f, s:f, s:f}", "prompt_ids",
                               kvrun_ids_json(ids, c->n_prompt), "base", side_json(base, c->n_prompt),
                               other->system.predictor ? "kvp" : "pruned", side_json(other, c->n_prompt),
                               "repeats", (json_int_t)c->run->options.repeats, "first_token_equal",
                               same_first(&base->answer, &other->answer), "common_prefix",
                               (json_int_t)common_prefix(&base->answer, &other->answer), "ttft_reduction",
                               base->ttft.seconds / other->ttft.seconds, "flops_reduction",
                               (double)kv_system_flops(&base->system, c->n_prompt) /
                                   (double)kv_system_flops(&other->system, c->n_prompt),
                               "paper_reduction", kv_system_paper_reduction(&other->system, &base->system));
    if (!object) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the JSON object");
    kv_json_put(stdout, object, JSON_COMPACT);
    return KV_OK;
}

kv_status kvrun_compare(const kvrun *run, const int32_t *ids, int64_t n, bool *interrupted, kv_error *err) {
    struct comparison c = {.run = run, .n_prompt = n};
    c.sides[0].system = (kv_system){.base = run->system.base};
    c.sides[1].system = run->system;
    kv_status status = run_side(run, ids, n, &c.sides[0], err);
    // With the first answer cut short there is nothing to compare.
    if (status == KV_OK && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (status == KV_OK) status = run_side(run, ids, n, &c.sides[1], err);
    if (status == KV_OK) status = run->options.json ? put_json(&c, ids, err) : print_comparison(&c, err);
    if (status == KV_OK) status = kvrun_flush(stdout, err);
    *interrupted = kv_console_interrupted();
    for (int i = 0; i < 2; i++) kvrun_answer_free(&c.sides[i].answer);
    return status;
}
