// Every message is one span, which lies in one piece on both sides: nothing is packed, and nobody has to say what comes next.
#include "train/run/moments.h"

#include "data/ranks/ranks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct kv_moments {
    const kv_adamw *optimizer;
    bool everywhere;      // all ranks hold all moments
    kv_param_span *spans; // rank 0: those of all ranks, end to end
    int64_t *begins;      // [n_ranks + 1]: rank r's are spans[begins[r]] ... spans[begins[r + 1] - 1]
};

static bool holds_all(const kv_adamw *o) {
    bool all = o->n_spans == o->n_params;
    for (int64_t i = 0; all && i < o->n_spans; i++) {
        const kv_param_span *s = &o->spans[i];
        all = s->param == i && s->begin == 0 && s->end == kv_param_size(o->params[i]);
    }
    return all;
}

// ---- Who holds what ------------------------------------------------------------------------------------

static int by_place(const void *a, const void *b) {
    const kv_param_span *x = a, *y = b;
    const int by_param = (x->param > y->param) - (x->param < y->param);
    return by_param ? by_param : (x->begin > y->begin) - (x->begin < y->begin);
}

// Whether sorted spans that are not empty follow one another without gap or overlap through all parameters.
static kv_status check_sorted(const kv_adamw *o, const kv_param_span *spans, int64_t n, kv_error *err) {
    int64_t next = 0;
    for (int64_t i = 0; i < o->n_params; i++) {
        int64_t done = 0;
        for (; next < n && spans[next].param == i && spans[next].begin == done; next++)
            done = spans[next].end;
        if (done != kv_param_size(o->params[i]))
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "the optimiser's parts hold %s up to element %" PRIi64
                           ", expected all of its %" PRIi64 " once",
                           o->params[i]->name, done, kv_param_size(o->params[i]));
    }
    return KV_OK;
}

static kv_status check_cover(const kv_moments *m, kv_error *err) {
    const int64_t n_all = m->begins[kv_n_ranks()];
    int64_t n = 0;
    kv_param_span *sorted = malloc((size_t)(n_all + 1) * sizeof *sorted);
    if (!sorted) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (int64_t i = 0; i < n_all; i++)
        if (m->spans[i].begin < m->spans[i].end) sorted[n++] = m->spans[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_place);
    const kv_status status = check_sorted(m->optimizer, sorted, n, err);
    free(sorted);
    return status;
}

static kv_status learn_spans(kv_moments *m, kv_error *err) {
    const kv_adamw *o = m->optimizer;
    const int n_ranks = kv_n_ranks();
    char *all = NULL;
    size_t *sizes = calloc((size_t)n_ranks, sizeof *sizes);
    m->begins = calloc((size_t)n_ranks + 1, sizeof *m->begins);
    kv_status status = sizes && m->begins ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (status == KV_OK)
        status = kv_ranks_collect(o->spans, (size_t)o->n_spans * sizeof *o->spans, &all, sizes, err);
    if (status == KV_OK && kv_rank_leads()) {
        m->spans = (kv_param_span *)(void *)all;
        for (int r = 0; r < n_ranks; r++)
            m->begins[r + 1] = m->begins[r] + (int64_t)(sizes[r] / sizeof *m->spans);
        status = check_cover(m, err);
    }
    free(sizes);
    return kv_ranks_agree(status, err);
}

kv_status kv_moments_open(const kv_adamw *optimizer, kv_moments **moments, kv_error *err) {
    double n_others = !holds_all(optimizer);
    kv_moments *m = *moments = calloc(1, sizeof *m);
    kv_status status = kv_ranks_agree(m ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory"), err);
    if (status == KV_OK) {
        kv_ranks_sum(&n_others, 1);
        *m = (kv_moments){.optimizer = optimizer, .everywhere = n_others == 0};
        if (!m->everywhere) status = learn_spans(m, err);
    }
    if (status == KV_OK) return KV_OK;
    kv_moments_free(m);
    *moments = NULL;
    return status;
}

void kv_moments_free(kv_moments *moments) {
    if (!moments) return;
    free(moments->spans);
    free(moments->begins);
    free(moments);
}

// ---- On their way --------------------------------------------------------------------------------------

// The first of n sorted spans that is of this parameter or of one behind it.
static int64_t find(const kv_param_span *spans, int64_t n, int64_t param) {
    int64_t low = 0, high = n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (spans[middle].param < param)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static float *own(const kv_adamw *o, int64_t span, kv_moment moment) {
    return moment == KV_MOMENT_M ? o->m[span] : o->v[span];
}

static size_t bytes_of(const kv_param_span *span) {
    return (size_t)(span->end - span->begin) * sizeof(float);
}

// On rank 0, whose own spans come first: all spans of a parameter into or out of `all`.
static void pass_all(const kv_moments *m, int64_t param, kv_moment moment, float *all, bool gather) {
    for (int r = 0; r < kv_n_ranks(); r++) {
        const kv_param_span *spans = m->spans + m->begins[r];
        const int64_t n = m->begins[r + 1] - m->begins[r];
        for (int64_t i = find(spans, n, param); i < n && spans[i].param == param; i++) {
            float *place = all + spans[i].begin, *mine = r == 0 ? own(m->optimizer, i, moment) : NULL;
            const size_t size = bytes_of(&spans[i]);
            if (mine)
                memcpy(gather ? place : mine, gather ? mine : place, size);
            else if (gather)
                kv_ranks_receive(place, size, r);
            else
                kv_ranks_send(place, size, r);
        }
    }
}

// On the others.
static void pass_own(const kv_moments *m, int64_t param, kv_moment moment, bool gather) {
    const kv_adamw *o = m->optimizer;
    for (int64_t i = find(o->spans, o->n_spans, param); i < o->n_spans && o->spans[i].param == param; i++) {
        float *mine = own(o, i, moment);
        if (gather)
            kv_ranks_send(mine, bytes_of(&o->spans[i]), 0);
        else
            kv_ranks_receive(mine, bytes_of(&o->spans[i]), 0);
    }
}

static void pass(const kv_moments *m, int64_t param, kv_moment moment, float *all, bool gather) {
    if (kv_rank_leads())
        pass_all(m, param, moment, all, gather);
    else
        pass_own(m, param, moment, gather);
}

const float *kv_moments_gather(kv_moments *m, int64_t param, kv_moment moment) {
    float *all = m->optimizer->params[param]->grad;
    if (m->everywhere)
        all = own(m->optimizer, param, moment);
    else
        pass(m, param, moment, all, true);
    return kv_rank_leads() ? all : NULL;
}

void kv_moments_spread(kv_moments *m, int64_t param, kv_moment moment, float *all) {
    if (!m->everywhere) {
        pass(m, param, moment, all, false);
        return;
    }
    float *mine = own(m->optimizer, param, moment);
    const size_t size = (size_t)kv_param_size(m->optimizer->params[param]) * sizeof *mine;
    if (kv_rank_leads()) memcpy(mine, all, size);
    kv_ranks_broadcast(mine, size, 0);
}
