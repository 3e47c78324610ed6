// A count for each watched parameter: how many records that name it are still to be walked.
#include "core/grad_watch.h"

#include <stdlib.h>

struct place {
    const kv_param *param;
    int64_t pending;
    bool ready;
};

struct kv_grad_watch {
    const kv_grad_watcher *watcher;
    struct place *places; // [n], by the parameter's address
    int64_t n;
};

static int by_address(const void *a, const void *b) {
    const uintptr_t x = (uintptr_t)((const struct place *)a)->param,
                    y = (uintptr_t)((const struct place *)b)->param;
    return (x > y) - (x < y);
}

// NULL of a parameter that nobody watches, or that is frozen.
static struct place *find(const kv_grad_watch *watch, const kv_param *param) {
    if (!param || !kv_param_trainable(param)) return NULL;
    return bsearch(&(struct place){.param = param}, watch->places, (size_t)watch->n, sizeof *watch->places,
                   by_address);
}

kv_grad_watch *kv_grad_watch_begin(kv_arena *arena, const kv_grad_watcher *watcher) {
    kv_grad_watch *watch = kv_arena_alloc(arena, sizeof *watch);
    struct place *places = kv_arena_alloc(arena, (size_t)watcher->n_params * sizeof *places);
    if (!watch || !places) return NULL;
    *watch = (kv_grad_watch){.watcher = watcher, .places = places, .n = watcher->n_params};
    for (int64_t i = 0; i < watcher->n_params; i++) places[i] = (struct place){.param = watcher->params[i]};
    qsort(places, (size_t)watch->n, sizeof *places, by_address);
    return watch;
}

static void announce(const kv_grad_watch *watch, struct place *place) {
    if (!place || place->ready) return;
    place->ready = true;
    watch->watcher->ready(watch->watcher->context, place->param);
}

void kv_grad_watch_count(kv_grad_watch *watch, const kv_param *param, int64_t by) {
    struct place *place = find(watch, param);
    if (!place) return;
    place->pending += by;
    if (place->pending == 0) announce(watch, place);
}

void kv_grad_watch_ready(kv_grad_watch *watch, const kv_param *param) {
    announce(watch, find(watch, param));
}

void kv_grad_watch_end(kv_grad_watch *watch) {
    const kv_grad_watcher *w = watch->watcher;
    for (int64_t i = w->n_params - 1; i >= 0; i--) announce(watch, find(watch, w->params[i]));
}

void kv_grad_watch_tick(const kv_grad_watch *watch) {
    if (watch->watcher->tick) watch->watcher->tick(watch->watcher->context);
}

bool kv_grad_watch_is_ready(const kv_grad_watch *watch, const kv_param *param) {
    const struct place *place = find(watch, param);
    return place && place->ready;
}
