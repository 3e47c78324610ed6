// The node's first rank makes a model as one process would, then moves it into pages of all, tensor by tensor, so that there is no
// moment with two of it in memory.
#include "data/checkpoint/shared.h"

#include "core/gemm/packed.h"
#include "data/file/hash.h"
#include "data/ranks/pages.h"
#include "data/ranks/ranks.h"
#include "data/system/warning.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 64, MAX_PARAMS = 3 + KV_MAX_LAYERS * sizeof(kv_layer) / sizeof(kv_param) };

// Where a weight lies in the pages, and how. A list of them, in the order of kv_model_params, is what pages begin with.
struct placed {
    int64_t offset;
    int32_t dtype, layout;
};

// What the node's first rank has to say before others can do anything.
struct made {
    int32_t status;
    int32_t own; // in memory of its own, for others to share; 0: views of a file, or there are none
    uint64_t source, shape;
    char fingerprint[24];
};

static size_t round_up(size_t size) {
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t weight_size(const kv_param *p) {
    return (size_t)kv_param_size(p) * kv_dtype_size(p->dtype);
}

// Of packed views some may be left in the file; they come along. NULL: it was only looked at.
static bool owns_weights(const kv_model *model) {
    return model && (model->packed || model->release == free);
}

// ---- Moving a model into pages -------------------------------------------------------------------------

static size_t plan(kv_param *const *params, int64_t n, struct placed *list) {
    size_t end = round_up((size_t)n * sizeof *list);
    for (int64_t i = 0; i < n; i++) {
        list[i] = (struct placed){(int64_t)end, (int32_t)params[i]->dtype, (int32_t)params[i]->layout};
        end += round_up(weight_size(params[i]));
    }
    return end;
}

// Memory that will not be read again, in whole pages.
static void give_back(const kv_param *param) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)param->data;
    const uintptr_t first = (begin + page - 1) / page * page,
                    last = (begin + weight_size(param)) / page * page;
    if (first < last) madvise((void *)first, last - first, MADV_DONTNEED);
}

static void copy_weight(char *to, const kv_param *param) {
    enum { PIECE = 1 << 20 };
    const size_t size = weight_size(param);
#pragma omp parallel for schedule(static) if (size > PIECE)
    for (size_t at = 0; at < size; at += PIECE)
        memcpy(to + at, (const char *)param->data + at, size - at < PIECE ? size - at : PIECE);
}

// Weight by weight, so that each is there twice only while it is copied.
static void fill(kv_pages *pages, kv_param *const *params, int64_t n, const struct placed *list) {
    char *data = kv_pages_data(pages);
    kv_pages_reach(pages, (size_t)n * sizeof *list);
    memcpy(data, list, (size_t)n * sizeof *list);
    for (int64_t i = 0; i < n; i++) {
        kv_pages_reach(pages, (size_t)list[i].offset + weight_size(params[i]));
        copy_weight(data + list[i].offset, params[i]);
        give_back(params[i]);
    }
}

// The pages belong to the model from here on.
static void bind(kv_model *model, kv_pages *pages) {
    kv_param *params[MAX_PARAMS];
    const int64_t n = kv_model_params(model, params);
    const struct placed *list = (const struct placed *)kv_pages_data(pages);
    for (int64_t i = 0; i < n; i++) {
        params[i]->dtype = (kv_dtype)list[i].dtype;
        params[i]->layout = (kv_layout)list[i].layout;
        params[i]->data = kv_pages_data(pages) + list[i].offset;
    }
    model->storage = pages;
    model->release = kv_pages_free;
}

// ---- On every rank of a node ---------------------------------------------------------------------------

static kv_status make_shell(const kv_model_spec *spec, const char *name, kv_model **shell, kv_error *err) {
    kv_status status = kv_model_create(spec, KV_F32, false, shell, err);
    return status == KV_OK ? KV_OK : kv_fail_within(err, status, "%s", name);
}

static uint64_t hash_shape(kv_model *model) {
    kv_param *params[MAX_PARAMS];
    const int64_t n = model ? kv_model_params(model, params) : 0;
    uint64_t hash = 0;
    for (int64_t i = 0; i < n; i++) {
        hash = kv_hash64(hash, &params[i]->rows, sizeof params[i]->rows);
        hash = kv_hash64(hash, &params[i]->cols, sizeof params[i]->cols);
    }
    return hash;
}

// What pages hold of another shape would be read as something else.
static kv_status check_shape(const char *name, uint64_t found, uint64_t expected, kv_error *err) {
    if (found == expected) return KV_OK;
    return kv_fail(err, KV_ERR_MISMATCH,
                   "%s: has another shape here than where the first rank of this node found it", name);
}

// The first rank's own model, if it is to be shared, goes into the pages; the others' is what they find there. False where
// pages cannot be shared: models are as before. shell: a model without weights; NULL, of others than the first: they have failed.
static bool share(kv_model **model, kv_model *shell) {
    struct placed list[MAX_PARAMS];
    kv_param *params[MAX_PARAMS];
    const bool first = kv_node_rank() == 0;
    const int64_t n = first ? kv_model_params(*model, params) : 0;
    kv_pages *pages = kv_pages_create(first ? plan(params, n, list) : 0);
    if (!pages) return false;
    if (first) fill(pages, params, n, list);
    kv_pages_seal(pages);
    if (!shell) { // something is wrong here, which is agreed on soon
        kv_pages_free(pages);
        return true;
    }
    bind(shell, pages);
    kv_model_free(*model);
    *model = shell;
    return true;
}

struct loading {
    const kv_model_spec *spec;
    const char *name;
    kv_frozen_load *load;
    void *context;
};

// The same name may lead elsewhere: each rank has a working directory.
static uint64_t hash_source(const char *name) {
    char *path = realpath(name, NULL);
    const char *said = path ? path : name;
    const uint64_t hash = kv_hash64(0, said, strlen(said));
    free(path);
    return hash;
}

// By the first rank; `made` tells of it.
static kv_status make(const struct loading *l, kv_model **model, kv_model **shell, struct made *made,
                      kv_error *err) {
    const bool first = kv_node_rank() == 0;
    *made = (struct made){.source = hash_source(l->name)};
    kv_status status = first ? l->load(l->context, model, made->fingerprint, err) : KV_OK;
    if (status == KV_OK) status = make_shell(l->spec, l->name, shell, err);
    made->status = status;
    made->own = status == KV_OK && kv_node_ranks() > 1 && owns_weights(*model);
    made->shape = hash_shape(*shell);
    return status;
}

// What the first rank has made is loaded by the others only where they do not get it from that one, or it is not theirs:
// whether they are about to compute the same is for others to find out, by fingerprints. *apart: they could not.
static kv_status load_on_node(const struct loading *l, kv_model **model, char fingerprint[24], bool *apart,
                              kv_error *err) {
    kv_model *shell = NULL;
    struct made mine, made;
    kv_status status = make(l, model, &shell, &mine, err);
    made = mine;
    kv_node_broadcast(&made, sizeof made, 0);
    memcpy(fingerprint, made.fingerprint, sizeof made.fingerprint);
    const bool same = made.source == mine.source;
    if (made.status == KV_OK && status == KV_OK && same)
        status = check_shape(l->name, mine.shape, made.shape, err);
    if (made.status != KV_OK || status != KV_OK || !same) {
        kv_model_free(shell);
        shell = NULL;
    }
    const bool shared = made.status == KV_OK && made.own && share(model, shell);
    if (!shared) kv_model_free(shell);
    *apart = made.status == KV_OK && made.own && !shared;
    if (made.status != KV_OK || status != KV_OK || kv_node_rank() == 0 || (shared && same)) return status;
    return l->load(l->context, model, made.fingerprint[0] ? fingerprint : NULL, err);
}

static void say_who_has_copies(const char *name, bool apart) {
    double n = apart;
    kv_ranks_sum(&n, 1);
    if (n > 0 && kv_rank_leads())
        kv_warn("%s: %d ranks have a copy of its weights each, since they cannot share memory with others of "
                "their node (do they run in containers of their own, or under ulimit -n or -f?)",
                name, (int)n);
}

kv_status kv_share_frozen(const kv_model_spec *spec, const char *name, kv_frozen_load *load, void *context,
                          kv_model **model, char fingerprint[17], kv_error *err) {
    *model = NULL;
    if (kv_n_ranks() == 1) return load(context, model, fingerprint, err);
    const struct loading loading = {spec, name, load, context};
    char found[24];
    bool apart;
    kv_status status = kv_ranks_agree(load_on_node(&loading, model, found, &apart, err), err);
    if (status != KV_OK) {
        kv_model_free(*model);
        *model = NULL;
        return status;
    }
    if (fingerprint) memcpy(fingerprint, found, 17);
    say_who_has_copies(name, apart);
    return KV_OK;
}

// ---- Beforehand ----------------------------------------------------------------------------------------

static uint64_t hash_spec(const kv_model_spec *s, uint64_t hash) {
    const int64_t sizes[] = {s->vocab_size, s->model_dim, s->head_dim, s->n_layers,
                             s->qk_norm,    s->qkv_bias,  s->tied_head};
    hash = kv_hash64(hash, sizes, sizeof sizes);
    return kv_hash64(hash, s->layers, (size_t)s->n_layers * sizeof s->layers[0]);
}

bool kv_share_possible(const kv_model_spec *const *specs, int64_t n) {
    uint64_t mine = 0, first;
    for (int64_t i = 0; i < n; i++) {
        mine = kv_hash64(mine, &i, sizeof i);
        if (specs[i]) mine = hash_spec(specs[i], mine);
    }
    first = mine;
    kv_ranks_broadcast(&first, sizeof first, 0);
    double n_others = mine != first;
    kv_ranks_sum(&n_others, 1);
    return n_others == 0;
}

// ---- Of a directory ------------------------------------------------------------------------------------

struct directory {
    const char *dir;
    const kv_model_spec *spec;
    kv_frozen_dtype dtype;
    bool identified;
};

static kv_status load_directory(void *context, kv_model **model, char *fingerprint, kv_error *err) {
    const struct directory *d = context;
    return kv_checkpoint_load_frozen(d->dir, d->spec, d->dtype, model, d->identified ? fingerprint : NULL,
                                     err);
}

kv_status kv_checkpoint_load_shared(const char *dir, const kv_model_spec *spec, kv_frozen_dtype dtype,
                                    kv_model **model, char fingerprint[17], kv_error *err) {
    kv_model_spec read;
    kv_status status = spec ? KV_OK : kv_checkpoint_spec(dir, &read, err);
    *model = NULL;
    status = kv_ranks_agree(status, err);
    if (status != KV_OK) return status;
    struct directory directory = {dir, spec ? spec : &read, dtype, fingerprint != NULL};
    return kv_share_frozen(directory.spec, dir, load_directory, &directory, model, fingerprint, err);
}
