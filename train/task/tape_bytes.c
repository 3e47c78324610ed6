// Follows core/objective.c and core/transformer.c operator by operator: whoever changes what one of them
// keeps changes it here too. tests/train/test_train_memory.c compares both.
#include "train/task/tape_bytes.h"

#include "core/predictor/best.h"
#include "train/task/least_squares_start.h"

#include <omp.h>

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double rows_of(const kv_tape_shape *shape) {
    return (double)shape->n_seq * (double)shape->seq_len;
}

// ---- One pass, in floats a token -----------------------------------------------------------------------

struct widths {
    double dim, q, kv, ffn, heads, norm; // norm: 1 with q/k norm
};

static struct widths widths_of(const kv_model_spec *spec, int64_t layer) {
    const kv_layer_spec *l = &spec->layers[layer];
    return (struct widths){.dim = (double)spec->model_dim,
                           .q = (double)(l->n_heads * spec->head_dim),
                           .kv = (double)kv_spec_kv_dim(spec, layer),
                           .ffn = (double)l->ffn_dim,
                           .heads = (double)l->n_heads,
                           .norm = spec->qk_norm};
}

// Queries (before and after their norm) and what attention makes of them; the layer's own keys and values;
// gate, up and their product. Each has a gradient as large as itself.
static double inner(const struct widths *w, bool own_kv) {
    return (2 + w->norm) * (w->q + (own_kv ? w->kv : 0)) + 3 * w->ffn;
}

// Two norms and two sums; two floats a head for attention's backward.
static double layer_values(const kv_model_spec *spec, int64_t layer, bool own_kv) {
    const struct widths w = widths_of(spec, layer);
    return 4 * w.dim + inner(&w, own_kv) + 2 * w.heads;
}

// A sum hands its gradient on, and what the feed-forward part multiplies hands it to `up`: only norms and what is
// multiplied before have their own.
static double layer_gradients(const kv_model_spec *spec, int64_t layer, bool own_kv) {
    const struct widths w = widths_of(spec, layer);
    return 2 * w.dim + inner(&w, own_kv) - w.ffn;
}

// What a pass that is differentiated goes through: LOGITS all of a model; CACHE up to its last layer's keys
// and values; GIVEN all but keys and values, which it is given.
enum reach { LOGITS, CACHE, GIVEN };

// What a layer hands out.
static double layer_taps(const kv_model_spec *spec, int64_t layer, uint8_t reads) {
    const double kv = (double)kv_spec_kv_dim(spec, layer);
    return (reads & KV_READ_K ? kv : 0) + (reads & KV_READ_V ? kv : 0) +
           (reads & KV_READ_H ? (double)spec->model_dim : 0);
}

// What it leaves: values until the step ends, gradients from its backward on; and what one layer that is
// computed again works on, for a moment.
struct pass {
    double values, gradients, moment;
};

// Of a layer that is computed again (core/recompute.h) its output stays, and keys and values that are handed
// out, with gradients; within it these are borrowed, but those of given ones are made a second time, and its
// input needs a place for its own.
static void add_layer_again(const kv_model_spec *spec, int64_t layer, enum reach reach, double handed_out,
                            struct pass *p) {
    const double dim = (double)spec->model_dim, cache = 2 * (double)kv_spec_kv_dim(spec, layer);
    const bool own_kv = reach != GIVEN;
    p->values += dim + handed_out;
    p->gradients += handed_out;
    const double within = layer_values(spec, layer, own_kv) + layer_gradients(spec, layer, own_kv) -
                          handed_out + (own_kv ? 0 : cache);
    p->moment = larger(p->moment, dim + within);
}

// reads: what each of the `depth` layers that are run hands out; NULL: nothing. Layers before `first` are not
// differentiated.
static struct pass pass(const kv_model_spec *spec, enum reach reach, int64_t first, int64_t depth,
                        const uint8_t *reads, bool checkpointing) {
    const double dim = (double)spec->model_dim;
    const int64_t n = depth - (reach == CACHE);
    struct pass p = {2 * dim, 2 * dim, 0}; // embedding and last norm
    for (int64_t i = first; i < n; i++) {
        if (checkpointing) {
            add_layer_again(spec, i, reach, reads ? layer_taps(spec, i, reads[i]) : 0, &p);
        } else {
            p.values += layer_values(spec, i, reach != GIVEN);
            p.gradients += layer_gradients(spec, i, reach != GIVEN);
        }
    }
    if (reach != CACHE || depth == 0) return p;
    // Keys are normed as well; the layer's own norm stands above.
    const double kv = (double)kv_spec_kv_dim(spec, n);
    const double last =
        (reads[n] & KV_READ_K ? (1 + spec->qk_norm) * kv : 0) + (reads[n] & KV_READ_V ? kv : 0);
    p.values += last, p.gradients += last;
    return p;
}

// A pass that is not: keys and values stay, and one layer's output, in the place of the one before.
static double frozen_values(const kv_model_spec *spec) {
    double sum = (double)spec->model_dim;
    for (int64_t i = 0; i < spec->n_layers; i++) sum += 2 * (double)kv_spec_kv_dim(spec, i);
    return sum;
}

// The same of the aux as far as it is read.
static double read_values(const kv_model_spec *aux, int64_t depth, const uint8_t *reads) {
    double sum = (double)aux->model_dim;
    for (int64_t i = 0; i < depth; i++) sum += layer_taps(aux, i, reads[i]);
    return sum;
}

static double largest_layer(const kv_model_spec *spec) {
    double most = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) most = larger(most, layer_values(spec, i, true));
    return most;
}

// Keys before their norm and values, as a cache on disk has them.
static double raw_cache(const kv_model_spec *spec) {
    double sum = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) sum += 2 * (double)kv_spec_kv_dim(spec, i);
    return sum;
}

// What the largest layer of the models that are run takes while it is.
static double running(const kv_model_spec *base, bool base_runs, const kv_model_spec *aux, bool aux_runs) {
    return larger(base_runs ? largest_layer(base) : 0, aux_runs ? largest_layer(aux) : 0);
}

// ---- What operators work on for a moment, in floats ----------------------------------------------------

// core/ops/attention.c: each thread's tiles, and of the backward (longest: of a sequence there; 0: none is run) the
// queries it holds.
static double attention_moment(const kv_model_spec *spec, int64_t longest, int n_threads) {
    double bytes = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const kv_layer_spec *l = &spec->layers[i];
        bytes = larger(bytes, (double)kv_attention_scratch(l->n_heads, l->n_kv_heads, spec->head_dim));
        if (longest > 0)
            bytes = larger(bytes, (double)kv_attention_backward_scratch(l->n_heads, l->n_kv_heads,
                                                                        spec->head_dim, longest));
    }
    return bytes / sizeof(float) * n_threads / omp_get_max_threads();
}

// core/ops/lm_loss.c: the gradients of all logits are kept when they are few, else rows go through in blocks.
struct loss {
    double kept, moment;
};

static struct loss loss_floats(const kv_model_spec *spec, double rows, bool teacher) {
    enum { BLOCK = 1 << 20, KEPT = 1 << 24, LEAST_ROWS = 16 };
    const double vocab = (double)spec->vocab_size, all = rows * vocab;
    const double least = larger(LEAST_ROWS * vocab, BLOCK), block = least < all ? least : all;
    if (all <= KEPT) return (struct loss){all, teacher ? block : 0};
    return (struct loss){0, (teacher ? 2 : 1) * block};
}

// ---- Steps ---------------------------------------------------------------------------------------------

// A teacher leaves its last layer's output and that after the last norm, and is done before the model begins.
static double taught_values(const kv_tape_teacher *t) {
    return (t->spec ? 2 * (double)t->spec->model_dim : 0) + (t->top_k > 0 ? 2 * (double)t->top_k + 1 : 0);
}

static double teaching_moment(const kv_tape_teacher *t, double rows, int n_threads) {
    if (!t->spec) return 0;
    return rows * largest_layer(t->spec) + attention_moment(t->spec, 0, n_threads);
}

double kv_tape_lm_bytes(const kv_model_spec *spec, const kv_tape_teacher *teacher, bool checkpointing,
                        const kv_tape_shape *shape) {
    const double rows = rows_of(shape);
    const struct loss loss = loss_floats(spec, rows, teacher->spec != NULL);
    const struct pass p = pass(spec, LOGITS, 0, spec->n_layers, NULL, checkpointing);
    const double kept = rows * p.values + loss.kept;
    const double back =
        rows * (p.gradients + p.moment) + attention_moment(spec, shape->seq_len, shape->n_threads);
    return sizeof(float) *
           (rows * taught_values(teacher) +
            larger(kept + larger(back, loss.moment), teaching_moment(teacher, rows, shape->n_threads)));
}

// The base on its own cache: one layer's output in the place of the one before, and what is asked for.
static double teacher_values(const kv_model_spec *base, const kv_kvp_weights *w, kv_base_reach reach,
                             bool cache) {
    const double dim = (double)base->model_dim;
    if (reach.n_layers == 0) return 0;
    const bool copy = w->hidden != 0 && w->hidden_layer + 1 < reach.n_layers;
    return dim * (1 + reach.logits + copy) + (cache ? frozen_values(base) - dim : 0);
}

// The first layer of the base that reads what is not its own: from there on it is differentiated.
static int64_t first_predicted(const kv_predictor_spec *spec) {
    int64_t first = 0;
    while (first < spec->n_base_layers && !kv_layer_predicted(spec, first)) first++;
    return first;
}

// The base on the predicted one, layers before `first` only run. A hidden state that the next layer reads has a
// gradient of its own.
static struct pass student_pass(const kv_model_spec *base, const kv_kvp_weights *w, int64_t first,
                                bool checkpointing) {
    const kv_base_reach reach = kv_kvp_student_reach(w, base->n_layers);
    const double dim = (double)base->model_dim;
    if (reach.n_layers == 0) return (struct pass){0};
    struct pass p = pass(base, GIVEN, first, reach.n_layers, NULL, checkpointing);
    if (!reach.logits) p.values -= dim, p.gradients -= dim; // no last norm
    if (w->hidden != 0 && w->hidden_layer + 1 < reach.n_layers) p.gradients += dim;
    return p;
}

double kv_tape_kvp_bytes(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *predictor,
                         const kv_kvp_weights *w, bool aux_trained, bool checkpointing,
                         const kv_kvp_known *known, const kv_tape_shape *shape) {
    const double rows = rows_of(shape);
    const kv_base_reach teacher = kv_kvp_teacher_reach(w, known, base->n_layers),
                        student = kv_kvp_student_reach(w, base->n_layers);
    const bool cache = w->consistency != 0;
    const enum reach reach = w->aux != 0 ? LOGITS : CACHE;
    uint8_t reads[KV_MAX_LAYERS];
    const int64_t depth = kv_predictor_spec_reads(&predictor->spec, reads);
    const int64_t all = w->aux != 0 ? aux->n_layers : depth;
    const int64_t first = aux_trained ? 0 : first_predicted(&predictor->spec);
    const struct pass none = {0};
    const struct pass read = aux_trained ? pass(aux, reach, 0, all, reads, checkpointing) : none;
    const struct pass answered = student_pass(base, w, first, checkpointing);
    double map_gradients;
    const double maps = kv_predictor_floats(predictor, base, aux_trained, &map_gradients),
                 queries = student.n_layers > 0 ? kv_predictor_query_floats(predictor, base) : 0;
    double predicted = 0, moment = running(base, teacher.n_layers > 0, aux, !known->aux_cache) * rows;
    for (int64_t i = 0; i < base->n_layers; i++)
        predicted += (2 + (double)base->qk_norm) * (double)kv_spec_kv_dim(base, i);
    double kept = rows * (predicted + maps + queries), back = rows * (predicted + map_gradients + queries);
    kept += rows * (aux_trained        ? read.values
                    : known->aux_cache ? raw_cache(aux)
                                       : read_values(aux, depth, reads));
    back += rows * (read.gradients + answered.gradients + larger(read.moment, answered.moment));
    kept += rows * (teacher_values(base, w, teacher, cache && !known->base_cache) + answered.values);
    if (cache && known->base_cache) kept += rows * (raw_cache(base) + base->qk_norm * raw_cache(base) / 2);
    if (w->kl != 0) kept += rows * (known->top_k > 0 ? 2 * (double)known->top_k + 1 : 0);
    if (aux_trained && w->aux != 0) {
        const struct loss loss = loss_floats(aux, rows, false);
        kept += loss.kept, moment = larger(moment, loss.moment);
    }
    if (student.logits) {
        const struct loss loss = loss_floats(base, rows, teacher.logits);
        kept += loss.kept, moment = larger(moment, loss.moment);
    }
    back += larger(attention_moment(base, shape->seq_len, shape->n_threads),
                   aux_trained ? attention_moment(aux, shape->seq_len, shape->n_threads) : 0);
    return sizeof(float) * (kept + larger(back, moment));
}

// Logits go through in blocks where no gradient is wanted of them.
static double loss_block(const kv_model_spec *spec, double rows, bool teacher) {
    enum { BLOCK = 1 << 20, LEAST_ROWS = 16 };
    const double vocab = (double)spec->vocab_size, all = rows * vocab;
    const double least = larger(LEAST_ROWS * vocab, BLOCK), block = least < all ? least : all;
    return (teacher ? 2 : 1) * block;
}

double kv_tape_lm_validation_bytes(const kv_model_spec *spec, const kv_tape_teacher *teacher,
                                   const kv_tape_shape *shape) {
    const double rows = rows_of(shape);
    const double moment = larger(rows * largest_layer(spec) + attention_moment(spec, 0, shape->n_threads),
                                 loss_block(spec, rows, teacher->spec != NULL));
    return sizeof(float) *
           (rows * taught_values(teacher) +
            larger(rows * frozen_values(spec) + moment, teaching_moment(teacher, rows, shape->n_threads)));
}

double kv_tape_kvp_validation_bytes(const kv_model_spec *base, const kv_model_spec *aux,
                                    const kv_predictor *predictor, const kv_kvp_weights *w,
                                    const kv_tape_shape *shape) {
    const double rows = rows_of(shape);
    const kv_base_reach student = kv_kvp_student_reach(w, base->n_layers);
    uint8_t reads[KV_MAX_LAYERS];
    double gradients;
    const int64_t depth = kv_predictor_spec_reads(&predictor->spec, reads);
    double kept = read_values(aux, depth, reads) + (student.n_layers > 0 ? 2 : 1) * frozen_values(base) +
                  kv_predictor_floats(predictor, base, false, &gradients);
    if (w->hidden != 0) kept += 2 * (double)base->model_dim;
    for (int64_t i = 0; i < base->n_layers; i++)
        kept += (2 + (double)base->qk_norm) * (double)kv_spec_kv_dim(base, i);
    double moment =
        rows * larger(largest_layer(aux), largest_layer(base)) + attention_moment(base, 0, shape->n_threads);
    if (w->aux != 0) moment = larger(moment, loss_block(aux, rows, false));
    if (student.logits) moment = larger(moment, loss_block(base, rows, w->kl != 0));
    return sizeof(float) * (rows * kept + moment);
}

// Both models read a micro-batch, or caches say what they make of it.
static double start_passes(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *shape,
                           const kv_kvp_known *known, double rows, double joined) {
    const bool runs = !known->base_cache || !known->aux_cache;
    uint8_t reads[KV_MAX_LAYERS];
    const int64_t depth = kv_predictor_spec_reads(&shape->spec, reads);
    const double passes = (known->aux_cache ? raw_cache(aux) : read_values(aux, depth, reads)) +
                          (known->base_cache ? raw_cache(base) : frozen_values(base)) + joined +
                          running(base, !known->base_cache, aux, !known->aux_cache);
    return sizeof(float) * (rows * passes + (runs ? attention_moment(base, 0, omp_get_max_threads()) : 0));
}

double kv_least_squares_bytes(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *shape,
                              const kv_kvp_known *known, bool tables, int64_t n_passes, int64_t n_seq,
                              int64_t seq_len) {
    const double rows = (double)n_seq * (double)seq_len;
    double gradients, sums = 0;
    const double joined = kv_predictor_floats(shape, base, false, &gradients);
    for (int64_t i = 0; i < n_passes; i++) {
        const kv_layer_range layers = kv_least_squares_layers(shape, n_passes, i);
        sums = larger(sums, kv_least_squares_part_bytes(shape, layers, n_seq * seq_len) +
                                (tables ? kv_least_squares_table_bytes(shape, layers) : 0));
    }
    return start_passes(base, aux, shape, known, rows, joined) + sums;
}

double kv_best_start_bytes(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *all,
                           const kv_kvp_known *known, int64_t n_seq, int64_t seq_len) {
    const double rows = (double)n_seq * (double)seq_len;
    return start_passes(base, aux, all, known, rows, 0) + kv_best_bytes(all, n_seq * seq_len);
}
