// Prompts that are read once: --save-prompt and --load-prompt.
#include "infer/kvrun/kvrun.h"

#include "data/system/console.h"
#include "infer/kvrun/saved_file.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void put_source(char *to, size_t size, const char *from) {
    snprintf(to, size, "%s", from ? from : "");
}

// Known from loading, or (of a conversation, where weights are as they are stored) taken now.
static void put_fingerprint(char to[17], const char known[17], kv_model *model) {
    if (*known)
        memcpy(to, known, 17);
    else
        kv_checkpoint_fingerprint(model, to);
}

static kv_saved_maker maker_of(const kvrun *run) {
    static const char *const types[] = {[KV_F32] = "f32", [KV_BF16] = "bf16", [KV_F16] = "f16"};
    const kvrun_options *o = &run->options;
    kv_saved_maker m = {0};
    put_fingerprint(m.base, run->fingerprints[0], run->system.base);
    if (o->aux) put_fingerprint(m.aux, run->fingerprints[1], run->system.aux);
    if (o->predictor) memcpy(m.predictor, run->fingerprints[2], sizeof m.predictor);
    put_source(m.weights, sizeof m.weights, types[run->system.base->embed.dtype]);
    put_source(m.tokenizer, sizeof m.tokenizer, run->tokenizer ? kv_tokenizer_hash(run->tokenizer) : NULL);
    put_source(m.base_source, sizeof m.base_source, o->base);
    put_source(m.aux_source, sizeof m.aux_source, o->aux);
    put_source(m.predictor_source, sizeof m.predictor_source, o->predictor);
    return m;
}

// It stays loaded until the program ends.
static kv_status open_module(const kvrun_saved_file **module, kv_error *err) {
    void *library = dlopen("kvrun_saved.so", RTLD_NOW | RTLD_LOCAL);
    *module = library ? dlsym(library, "kvrun_saved_file_functions") : NULL;
    if (*module) return KV_OK;
    return kv_fail(err, KV_ERR_IO,
                   "saved prompts need the module kvrun_saved.so, which is installed with kvrun: %s",
                   dlerror());
}

// ---- Loading -------------------------------------------------------------------------------------------

kv_status kvrun_saved_open(kvrun *run, kv_error *err) {
    const kvrun_saved_file *module;
    kv_status status = open_module(&module, err);
    if (status != KV_OK) return status;
    const double started = kv_now();
    status = module->read(run->options.load_prompt, &run->saved, err);
    run->load_seconds = kv_now() - started;
    return status;
}

kv_status kvrun_saved_read(const kvrun *run, const char *path, kv_saved_prompt **prompt, double *seconds,
                           kv_error *err) {
    const kvrun_saved_file *module;
    const kv_saved_maker expected = maker_of(run);
    kv_status status = open_module(&module, err);
    if (status != KV_OK) return status;
    const double started = kv_now();
    status = module->read(path, prompt, err);
    *seconds = kv_now() - started;
    return status == KV_OK ? kv_saved_prompt_check(path, *prompt, &expected, err) : status;
}

kv_status kvrun_saved_check(const kvrun *run, kv_error *err) {
    const kv_saved_maker expected = maker_of(run);
    return kv_saved_prompt_check(run->options.load_prompt, run->saved, &expected, err);
}

// As many tokens as the prompt and what was saved begin with. The last one of a prompt is always read, for its logits.
static int64_t common(const kv_saved_prompt *saved, const int32_t *ids, int64_t n) {
    int64_t same = 0;
    while (same < saved->n_rows && same < n - 1 && saved->ids[same] == ids[same]) same++;
    return same;
}

static kv_status load(kvrun *run, const int32_t *ids, int64_t n, kv_session *session, int64_t *n_loaded,
                      kv_error *err) {
    const char *path = run->options.load_prompt;
    const double started = kv_now();
    *n_loaded = common(run->saved, ids, n);
    if (*n_loaded == 0)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%s: the prompt does not begin as the saved one does: its first id is %d, expected %d",
                       path, ids[0], run->saved->ids[0]);
    kv_status status = kv_session_load(session, 0, run->saved, err);
    if (status != KV_OK) return kv_fail_within(err, status, "%s", path);
    kv_session_rewind(session, *n_loaded);
    run->load_seconds += kv_now() - started;
    return KV_OK;
}

kv_status kvrun_saved_session(kvrun *run, const int32_t *ids, int64_t n, int64_t capacity,
                              kv_session **session, int64_t *n_loaded, kv_error *err) {
    *n_loaded = 0;
    if (!run->saved) return kvrun_session(&run->system, capacity, session, err);
    const int64_t room = run->saved->n_rows > capacity ? run->saved->n_rows : capacity;
    if (room > run->context)
        return kv_fail(err, KV_ERR_RANGE, "%s: a saved prompt of %lld tokens, the context holds %lld",
                       run->options.load_prompt, (long long)run->saved->n_rows, (long long)run->context);
    kv_status status = kvrun_session_turns(&run->system, room, session, err);
    if (status != KV_OK) return status;
    status = load(run, ids, n, *session, n_loaded, err);
    if (status == KV_OK) return KV_OK;
    kv_session_free(*session);
    *session = NULL;
    return status;
}

// ---- Saving --------------------------------------------------------------------------------------------

kv_status kvrun_saved_put(const kvrun *run, const char *path, const kv_session *session, const int32_t *ids,
                          int64_t n, const char *text, size_t n_text, kv_error *err) {
    const kvrun_saved_file *module;
    kv_saved_prompt *prompt;
    kv_status status = open_module(&module, err);
    if (status != KV_OK) return status;
    status = kv_session_save(session, 0, &prompt, err);
    if (status != KV_OK) return kv_fail_within(err, status, "%s", path);
    int32_t *longer = realloc(prompt->ids, (size_t)n * sizeof *longer);
    if (longer) prompt->ids = longer;
    if (text) prompt->text = malloc(n_text + 1);
    if (longer && (!text || prompt->text)) {
        memcpy(longer, ids, (size_t)n * sizeof *ids);
        if (text) memcpy(prompt->text, text, n_text), prompt->text[n_text] = '\0';
        prompt->n_ids = n, prompt->n_text = text ? (int64_t)n_text : 0;
        prompt->maker = maker_of(run);
        status = module->write(path, prompt, err);
    } else {
        status =
            kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for a prompt of %lld tokens", path, (long long)n);
    }
    kv_saved_prompt_free(prompt);
    return status;
}

// The base has read the last token, too: whatever comes behind it reads it again, so that with KV prediction it is
// predicted like those before it.
static kv_status read_and_put(kvrun *run, kv_session *session, const int32_t *ids, int64_t n,
                              int64_t n_loaded, kv_error *err) {
    const int64_t n_new = n - n_loaded;
    float *logits = malloc((size_t)kv_session_vocab_size(session) * sizeof *logits);
    if (!logits) return kv_fail(err, KV_ERR_MEMORY, "out of memory for logits");
    kv_status status = kv_session_append(session, ids + n_loaded, &n_new, logits, err);
    free(logits);
    if (status == KV_ERR_NOT_FINITE)
        return kv_fail_within(err, status, "%s", kvrun_system_name(&run->system));
    if (status == KV_OK && kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    kv_session_rewind(session, n - 1);
    return status == KV_OK
               ? kvrun_saved_put(run, run->options.save_prompt, session, ids, n, run->text, run->n_text, err)
               : status;
}

kv_status kvrun_saved_write(kvrun *run, const int32_t *ids, int64_t n, kv_error *err) {
    const kvrun_options *o = &run->options;
    kv_session *session;
    int64_t n_loaded = 0;
    char took[32];
    if (n < 2)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "--save-prompt: found a prompt of one token, expected two or more");
    kv_status status = run->saved ? kvrun_saved_session(run, ids, n, n, &session, &n_loaded, err)
                                  : kvrun_session_turns(&run->system, n, &session, err);
    if (status != KV_OK) return status;
    const double started = kv_now();
    status = read_and_put(run, session, ids, n, n_loaded, err);
    if (status == KV_OK && !o->quiet)
        fprintf(stderr, "[%s: %lld tokens of prompt, %lld of them read, saved in %s after %s]\n",
                kvrun_system_name(&run->system), (long long)n, (long long)(n - n_loaded), o->save_prompt,
                kvrun_seconds(kv_now() - started, took));
    kv_session_free(session);
    return status;
}
