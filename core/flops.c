// Counts worked out from shapes, product by product as the code executes them: a test holds each of them
// against kv_gemm_flops(). They are kept beside no operator, because training and inference run the same
// operators in different ways.
#include "core/flops.h"

#include "core/predictor/least_squares.h"

static uint64_t product(int64_t m, int64_t n, int64_t k) {
    return 2 * (uint64_t)m * (uint64_t)n * (uint64_t)k;
}

static int64_t q_dim(const kv_model_spec *spec, int64_t layer) {
    return spec->layers[layer].n_heads * spec->head_dim;
}

// ---- Inference -----------------------------------------------------------------------------------------

static uint64_t keys_values(const kv_model_spec *spec, int64_t layer, int64_t n) {
    return 2 * product(n, kv_spec_kv_dim(spec, layer), spec->model_dim);
}

static uint64_t attention(const kv_model_spec *spec, int64_t layer, int64_t q_len, int64_t k_len) {
    const kv_layer_spec *l = &spec->layers[layer];
    return kv_attention_flops(l->n_heads, l->n_kv_heads, spec->head_dim, q_len, k_len);
}

// Query and output projections, and the three of the feed-forward part.
static uint64_t other_projections(const kv_model_spec *spec, int64_t layer, int64_t n) {
    return 2 * product(n, q_dim(spec, layer), spec->model_dim) +
           3 * product(n, spec->layers[layer].ffn_dim, spec->model_dim);
}

uint64_t kv_flops_layer(const kv_model_spec *spec, int64_t layer, int64_t n, int64_t cached) {
    return keys_values(spec, layer, n) + attention(spec, layer, n, cached + n) +
           other_projections(spec, layer, n);
}

static uint64_t last_layer(const kv_model_spec *spec, int64_t n, int64_t cached) {
    const int64_t last = spec->n_layers - 1;
    return keys_values(spec, last, n) + attention(spec, last, 1, cached + n) +
           other_projections(spec, last, 1);
}

uint64_t kv_flops_last_layer(const kv_model_spec *spec, int64_t n) {
    return last_layer(spec, n, 0);
}

uint64_t kv_flops_layer_parts(const kv_model_spec *spec, int64_t layer, int64_t n, uint8_t reads) {
    const uint64_t one = keys_values(spec, layer, n) / 2;
    return one * (uint64_t)(((reads & KV_READ_K) != 0) + ((reads & KV_READ_V) != 0));
}

uint64_t kv_flops_head(const kv_model_spec *spec) {
    return product(1, spec->vocab_size, spec->model_dim);
}

uint64_t kv_flops_importance(const kv_model_spec *spec, int64_t layer, int64_t n, int64_t cached) {
    const kv_layer_spec *l = &spec->layers[layer];
    return kv_attention_importance_flops(l->n_heads, l->n_kv_heads, spec->head_dim, n, cached + n);
}

uint64_t kv_flops_queries_keys(const kv_model_spec *spec, int64_t layer, int64_t n) {
    return product(n, q_dim(spec, layer) + kv_spec_kv_dim(spec, layer), spec->model_dim);
}

uint64_t kv_flops_prefill_behind(const kv_model_spec *spec, int64_t n, int64_t cached) {
    uint64_t sum = last_layer(spec, n, cached) + kv_flops_head(spec);
    for (int64_t i = 0; i + 1 < spec->n_layers; i++) sum += kv_flops_layer(spec, i, n, cached);
    return sum;
}

uint64_t kv_flops_prefill(const kv_model_spec *spec, int64_t n) {
    return kv_flops_prefill_behind(spec, n, 0);
}

// The aux as far as it is read, and the predictors.
static uint64_t predicted_cache(const kv_model_spec *base, const kv_model_spec *aux,
                                const kv_predictor *predictor, int64_t n) {
    return kv_flops_predictor_aux(predictor, aux, 1, n, 0) + kv_flops_predictor_maps(predictor, base, n);
}

uint64_t kv_flops_kvp_decode(const kv_model_spec *base, const kv_predictor *predictor, int64_t cached) {
    return kv_flops_decode(base, cached) +
           (predictor ? kv_flops_predictor_queries(predictor, base, base->n_layers, 1) : 0);
}

uint64_t kv_flops_kvp_prefill(const kv_model_spec *base, const kv_model_spec *aux,
                              const kv_predictor *predictor, int64_t n) {
    const int64_t front = n - 1;
    if (front < 1) return kv_flops_decode(base, 0); // nothing to predict: the base reads it as it is
    return kv_flops_kvp_decode(base, predictor, front) + predicted_cache(base, aux, predictor, front);
}

uint64_t kv_flops_kvp_prefill_behind(const kv_model_spec *base, const kv_model_spec *aux,
                                     const kv_predictor *predictor, int64_t n, int64_t cached,
                                     int64_t unread) {
    const int64_t front = n - 1, read = unread + front;
    const uint64_t last = kv_flops_kvp_decode(base, predictor, cached + front);
    if (front < 1) return last; // the aux waits until there is something to predict
    return last + kv_flops_predictor_aux(predictor, aux, 1, read, cached - unread) +
           kv_flops_predictor_maps(predictor, base, front);
}

uint64_t kv_flops_read(const kv_model_spec *spec, int64_t n, int64_t cached) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) sum += kv_flops_layer(spec, i, n, cached);
    return sum;
}

uint64_t kv_flops_kvp_read(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *predictor,
                           int64_t n) {
    uint64_t sum = predicted_cache(base, aux, predictor, n) +
                   kv_flops_predictor_queries(predictor, base, base->n_layers, n);
    for (int64_t i = 0; i < base->n_layers; i++)
        sum += kv_flops_layer(base, i, n, 0) - keys_values(base, i, n);
    return sum;
}

uint64_t kv_flops_decode(const kv_model_spec *spec, int64_t cached) {
    uint64_t sum = kv_flops_head(spec);
    for (int64_t i = 0; i < spec->n_layers; i++) sum += kv_flops_layer(spec, i, 1, cached);
    return sum;
}

// ---- Training ------------------------------------------------------------------------------------------
//
// A linear layer costs one product forward, one backward for its input where that wants a gradient, and one
// for its weight where that is trained. Attention is two products forward; backward computes the scores and
// their gradient (two products), then one each for queries, keys and values that want a gradient.

// What becomes of a pass: nothing in it is trained, everything is, or everything with layers that are
// computed a second time.
enum pass_kind { FROZEN, TRAINED, TRAINED_TWICE };

static enum pass_kind kind_of(bool trained, bool checkpointing) {
    return !trained ? FROZEN : checkpointing ? TRAINED_TWICE : TRAINED;
}

// A pass of the first `depth` layers; `reads` is what alone is wanted of the last of them, which is not computed
// again, or KV_ALL: everything.
enum { KV_ALL = 0xff };
static uint64_t part_flops(const kv_model_spec *spec, int64_t depth, int64_t n_seq, int64_t seq_len,
                           enum pass_kind kind, uint8_t reads) {
    const int64_t n = n_seq * seq_len, last = depth - 1;
    uint64_t linear = 0, attended = 0, end = 0;
    for (int64_t i = 0; i < depth; i++) {
        if (i == last && reads != KV_ALL) {
            end = kv_flops_layer_parts(spec, i, n, reads);
            break;
        }
        linear += keys_values(spec, i, n) + other_projections(spec, i, n);
        attended += (uint64_t)n_seq * attention(spec, i, seq_len, seq_len);
    }
    const uint64_t forward = linear + attended;
    if (kind == FROZEN) return forward + end;
    return forward + 2 * linear + attended / 2 * 5 + 3 * end + (kind == TRAINED_TWICE ? forward : 0);
}

// The first layers of a model; only_kv: of the last of them its keys and values.
static uint64_t layers_flops(const kv_model_spec *spec, int64_t n_layers, int64_t n_seq, int64_t seq_len,
                             enum pass_kind kind, bool only_kv) {
    return part_flops(spec, n_layers, n_seq, seq_len, kind, only_kv ? KV_READ_K | KV_READ_V : KV_ALL);
}

static uint64_t pass_flops(const kv_model_spec *spec, int64_t n_seq, int64_t seq_len, enum pass_kind kind,
                           bool only_kv) {
    return layers_flops(spec, spec->n_layers, n_seq, seq_len, kind, only_kv);
}

// The base on its own cache, as far as the losses ask for it.
static uint64_t teacher_flops(const kv_model_spec *spec, int64_t n_seq, int64_t seq_len,
                              const kv_kvp_weights *weights, const kv_kvp_known *known) {
    const kv_base_reach reach = kv_kvp_teacher_reach(weights, known, spec->n_layers);
    return layers_flops(spec, reach.n_layers, n_seq, seq_len, FROZEN, reach.only_kv);
}

// The aux of a step: as far as predictors read it, or all of it for a loss of its own.
static uint64_t aux_flops(const kv_model_spec *aux, const kv_predictor *predictor, int64_t n_seq,
                          int64_t seq_len, enum pass_kind kind, bool whole) {
    uint8_t reads[KV_MAX_LAYERS];
    const int64_t depth = kv_predictor_spec_reads(&predictor->spec, reads);
    if (whole) return pass_flops(aux, n_seq, seq_len, kind, false);
    return depth == 0 ? 0 : part_flops(aux, depth, n_seq, seq_len, kind, reads[depth - 1]);
}

// The frozen base attending to predicted keys and values that want a gradient: nothing below the first
// layer's attention does.
//
// Exact keys and values of a frozen aux want no gradient: what comes before the first layer with others is
// only run.
struct student {
    const kv_model_spec *spec;
    const kv_predictor *predictor;
    int64_t n_layers, n_seq, seq_len;
    bool aux_trained, checkpointing;
};

static bool output_wants(const struct student *s, int side, int64_t layer) {
    const kv_output_spec *output = &s->predictor->spec.outputs[side][layer];
    if (!kv_output_exact(output)) return true;
    return s->aux_trained && s->predictor->spec.prefix_layers == 0 && kv_sources_of_aux(&output->sources);
}

static uint64_t student_flops(const struct student *s) {
    const kv_model_spec *spec = s->spec;
    const int64_t n = s->n_seq * s->seq_len;
    uint64_t sum = 0;
    bool below = false; // something of the layer's input wants a gradient
    for (int64_t i = 0; i < s->n_layers; i++) {
        const bool keys = output_wants(s, KV_KEYS, i), values = output_wants(s, KV_VALUES, i);
        const kv_query_adapter *a = s->predictor->adapters ? &s->predictor->adapters[i] : NULL;
        const uint64_t low = a && a->down ? product(n, a->down->rows, spec->model_dim + q_dim(spec, i)) : 0;
        const uint64_t query = product(n, q_dim(spec, i), spec->model_dim),
                       other = other_projections(spec, i, n);
        const uint64_t attended = (uint64_t)s->n_seq * attention(spec, i, s->seq_len, s->seq_len);
        const bool adapted = a && (a->q || a->down), queries = below || adapted;
        const uint64_t forward = other + low + attended;
        sum += forward;
        if (!keys && !values && !queries) continue;
        if (s->checkpointing) sum += forward;
        sum += other - query; // through what follows attention
        // Scores and their gradient again, then queries, keys and values that want one.
        sum += attended / 2 * (2 + (uint64_t)queries + (uint64_t)keys + (uint64_t)values);
        if (below) sum += query;
        if (a && a->q) sum += query;
        if (a && a->down) {
            const int64_t rank = a->down->rows;
            sum += low + product(n, rank, q_dim(spec, i)) + (below ? product(n, rank, spec->model_dim) : 0);
        }
        below = true;
    }
    return sum;
}

// teacher: whose logits are computed beside the model's; NULL: nobody's.
static uint64_t loss_flops(const kv_model_spec *spec, int64_t n, bool hidden_trained, bool head_trained,
                           const kv_model_spec *teacher) {
    return kv_lm_loss_flops(n, spec->vocab_size, spec->model_dim, teacher ? teacher->model_dim : 0,
                            hidden_trained, head_trained);
}

uint64_t kv_flops_lm_step(const kv_model_spec *spec, const kv_model_spec *teacher, int64_t n_seq,
                          int64_t seq_len, bool checkpointing) {
    return pass_flops(spec, n_seq, seq_len, kind_of(true, checkpointing), false) +
           (teacher ? pass_flops(teacher, n_seq, seq_len, FROZEN, false) : 0) +
           loss_flops(spec, n_seq * seq_len, true, true, teacher);
}

uint64_t kv_flops_kvp_step(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *predictor,
                           int64_t n_seq, int64_t seq_len, const kv_kvp_weights *weights, bool aux_trained,
                           bool checkpointing) {
    const int64_t n = n_seq * seq_len;
    const bool aux_loss = weights->aux != 0;
    const kv_model_spec *teacher = weights->kl != 0 ? base : NULL;
    const kv_base_reach student = kv_kvp_student_reach(weights, base->n_layers);
    const kv_kvp_known nothing = {0};
    const struct student given = {base,    predictor,   student.n_layers, n_seq,
                                  seq_len, aux_trained, checkpointing};
    uint64_t sum = aux_flops(aux, predictor, n_seq, seq_len, kind_of(aux_trained, checkpointing), aux_loss);
    if (aux_loss) sum += loss_flops(aux, n, aux_trained, aux_trained, NULL);
    sum += student.n_layers > 0 || weights->consistency != 0
               ? kv_flops_predictor_step(predictor, base, n, aux_trained)
               : kv_flops_predictor_maps(predictor, base, n);
    sum += teacher_flops(base, n_seq, seq_len, weights, &nothing) + student_flops(&given);
    return student.logits ? sum + loss_flops(base, n, true, false, teacher) : sum;
}

uint64_t kv_flops_lm_loss_only(const kv_model_spec *spec, const kv_model_spec *teacher, int64_t n_seq,
                               int64_t seq_len) {
    return pass_flops(spec, n_seq, seq_len, FROZEN, false) +
           (teacher ? pass_flops(teacher, n_seq, seq_len, FROZEN, false) : 0) +
           loss_flops(spec, n_seq * seq_len, false, false, teacher);
}

uint64_t kv_flops_kvp_loss_only(const kv_model_spec *base, const kv_model_spec *aux,
                                const kv_predictor *predictor, int64_t n_seq, int64_t seq_len,
                                const kv_kvp_weights *weights) {
    const int64_t n = n_seq * seq_len;
    const bool aux_loss = weights->aux != 0;
    const kv_kvp_known nothing = {0};
    kv_kvp_weights with_errors = *weights;
    with_errors.errors = true;
    uint64_t sum = aux_flops(aux, predictor, n_seq, seq_len, FROZEN, aux_loss) +
                   teacher_flops(base, n_seq, seq_len, &with_errors, &nothing) +
                   kv_flops_predictor_maps(predictor, base, n);
    if (aux_loss) sum += loss_flops(aux, n, false, false, NULL);
    const kv_base_reach student = kv_kvp_student_reach(weights, base->n_layers);
    if (student.n_layers == 0) return sum;
    sum += layers_flops(base, student.n_layers, n_seq, seq_len, FROZEN, false) +
           kv_flops_predictor_queries(predictor, base, student.n_layers, n);
    for (int64_t i = 0; i < student.n_layers; i++) sum -= keys_values(base, i, n); // they are given
    return student.logits ? sum + loss_flops(base, n, false, false, weights->kl != 0 ? base : NULL) : sum;
}

uint64_t kv_flops_kvp_spared(const kv_model_spec *base, const kv_model_spec *aux,
                             const kv_predictor *predictor, int64_t n_seq, int64_t seq_len,
                             const kv_kvp_weights *weights, const kv_kvp_known *known) {
    const int64_t n = n_seq * seq_len;
    const kv_kvp_known nothing = {0};
    uint64_t sum = known->aux_cache ? aux_flops(aux, predictor, n_seq, seq_len, FROZEN, false) : 0;
    sum += teacher_flops(base, n_seq, seq_len, weights, &nothing) -
           teacher_flops(base, n_seq, seq_len, weights, known);
    if (weights->kl != 0 && known->top_k > 0)
        sum += loss_flops(base, n, true, false, base) - loss_flops(base, n, true, false, NULL);
    return sum;
}

uint64_t kv_flops_least_squares(const kv_model_spec *base, const kv_model_spec *aux,
                                const kv_predictor *predictor, int64_t n_seq, int64_t seq_len) {
    const int64_t n = n_seq * seq_len;
    return aux_flops(aux, predictor, n_seq, seq_len, FROZEN, false) +
           pass_flops(base, n_seq, seq_len, FROZEN, true) + kv_flops_least_squares_sums(predictor, n);
}

// ---- Sizes ---------------------------------------------------------------------------------------------

static int64_t layer_size(const kv_model_spec *spec, int64_t layer) {
    const int64_t dim = spec->model_dim, q = q_dim(spec, layer), kv = kv_spec_kv_dim(spec, layer);
    int64_t size = 2 * dim + 2 * q * dim + 2 * kv * dim + 3 * dim * spec->layers[layer].ffn_dim;
    if (spec->qk_norm) size += 2 * spec->head_dim;
    if (spec->qkv_bias) size += q + 2 * kv;
    return size;
}

int64_t kv_spec_size(const kv_model_spec *spec, bool with_embedding) {
    int64_t size = spec->model_dim; // the final norm
    for (int64_t i = 0; i < spec->n_layers; i++) size += layer_size(spec, i);
    if (with_embedding) size += (spec->tied_head ? 1 : 2) * spec->vocab_size * spec->model_dim;
    return size;
}

double kv_paper_reduction(const kv_model_spec *base, const kv_model_spec *smaller) {
    return (double)kv_spec_size(base, true) / (double)kv_spec_size(smaller, true);
}
