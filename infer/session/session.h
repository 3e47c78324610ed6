// Inside a session: the cache of a batch, and the packs of tokens that are read into it. Not for others than
// infer/'s own files.
//
//   k[layer], v[layer]: rows of kv_dim floats              beside each row, by policy
//
//     sequence 0   row 0             token 0                positions  0   (static, speculative)
//                  row 1             token 1                           3   tokens 1 and 2 were pruned
//                  ...               ...                    depth      5   (lazy) has passed 5 layers, and
//                  lengths[0] - 1    the newest             hidden     x   its input to layer 5 is kept
//                  ...               free
//     sequence 1   row capacity      token 0
//                  ...
//
// A token keeps its row, rows stand in order of position. Without pruning a token has keys and values in
// every layer. With lazy pruning it has them below its depth.
#pragma once

#include "infer/session/system.h"

typedef struct kv_session kv_session;
struct kv_session {
    kv_system system; // pruning with defaults filled in
    int64_t n_seq, capacity;
    int64_t *lengths;        // [n_seq] rows in use
    int64_t not_finite;      // see kv_session_not_finite
    bool *predicted;         // [n_seq] whether a sequence's cache has predicted entries
    float **k, **v;          // [n_layers] of [n_seq · capacity, kv_dim]
    int32_t *positions;      // [n_seq · capacity] of each row's token; NULL: its place in the sequence
    int32_t *depth;          // lazy: [n_seq · capacity] layers the token went through
    float *hidden;           // lazy: [n_seq · capacity, model_dim] its input to layer `depth`
    struct kv_turns *turns;  // what an aux goes on from; NULL: a predicted prompt stands at the beginning
    kv_session *drafter;     // speculative: the aux's own cache
    float *draft_importance; // speculative: [n_seq, capacity + lookahead]
    kv_tape *tape;
    struct kv_part *parts; // [n_seq] of a reading, one for each pack
    kv_tape **more_tapes;  // [n_more_tapes] of further threads that read packs
    int64_t n_more_tapes;
};

// The position that the next token of sequence s gets.
int64_t kv_next_position(const kv_session *session, int64_t s);

// What a session keeps beside the base's cache for prompts to go on behind it. An aux's rows stand where the base's do:
// row capacity · s + t is token t of sequence s. The aux is behind: it reads what the base has decoded, and the last
// token of a prompt, when there is something to predict behind them.
//
//     the base's cache    p p p o o o o │ p p p o      p: predicted   o: the base's own
//     the aux has read    a a a         │              before the second prompt: 4 tokens are unread
typedef struct kv_turns {
    int32_t *ids;     // [n_seq · capacity]
    bool *predicted;  // [n_seq · capacity] whether a token's entries are
    int64_t n_layers; // of the aux, the first ones, whose keys and values it attends to
    float **k, **v;   // [n_layers] of [n_seq · capacity, kv_dim of the aux]; of a prefix the base's own
    bool of_base;     // they are those
    int64_t *n_read;  // [n_seq] tokens that a separate aux has read
} kv_turns;

// All of it in infer/session/turns.c. Of pruned sessions nothing is kept: true, and session->turns stays NULL.
bool kv_turns_create(kv_session *session);
void kv_turns_free(kv_session *session);
double kv_turns_token_bytes(const kv_system *system);        // beside the base's cache
int64_t kv_turns_read(const kv_session *session, int64_t s); // tokens of sequence s that the aux has read
void kv_turns_rewind(kv_session *session, int64_t s);        // to session->lengths[s]
void kv_turns_copy(kv_session *session, int64_t from, int64_t to);
void kv_turns_note(kv_session *session, int64_t s, const int32_t *ids, int64_t n,
                   bool predicted); // behind what is there

// Tokens to be read. The arrays are the caller's.
typedef struct kv_reading {
    const int32_t *ids;       // of all sequences, one after the other
    const int64_t *lengths;   // [n_seq] how many of them; 0: the sequence rests
    const int32_t *positions; // one for each id, rising; NULL: the next ones
    const int64_t *cached;    // [n_seq] the tokens before them; NULL: session->lengths
    // Where each row of the cache leaves the most attention that the newest token paid it in any layer or
    // head; [n_seq] of [length of the cache]. NULL: nobody asks.
    float *const *importance;
    float *hidden; // [n_ids, model_dim] what the final norm gives for each; NULL: only logits of the newest
} kv_reading;

// Keys whose attention from the newest token is asked for.
typedef struct kv_ranking {
    kv_pooling pooling;
    kv_sequence *sequences; // [n]
    float **importance;     // [n], see kv_attention_importance
    int64_t n;
} kv_ranking;

// New tokens of some sequences, one after the other without padding. With lazy pruning a pack is formed anew
// for each layer: the tokens that have not been through it, revived ones too.
typedef struct kv_pack {
    const int32_t *ids;         // [n_new]
    int64_t before;             // ids of the packs before it
    int64_t n_new, n_rows;      // rows: the tokens the layer works on, n_new without lazy pruning
    int64_t n_seqs, n_keys;     // keys: of all sequences together, when they are gathered
    bool predicted;             // their caches have predicted entries: all of them, or none
    int64_t *members;           // [n_seqs] which sequences of the session they are
    kv_sequence *sequences;     // [n_seqs] all rows of each
    kv_sequence *newest;        // [n_seqs] only the last row of each, in rows of its own
    int64_t *newest_rows;       // [n_seqs] where those rows were
    int64_t *cache_rows;        // [n_rows] where their keys and values go
    int32_t *q_positions;       // [n_rows]; NULL: places in the sequence
    int32_t *newest_positions;  // [n_seqs]; likewise
    const int32_t *k_positions; // of the cache's rows, or of the gathered ones; likewise
    int64_t *key_rows;          // [n_keys] rows of the cache that are attended to; NULL: all of a sequence
    int32_t *visible;           // [n_rows] with key_rows: how many of its sequence's keys a row sees
    kv_ranking ranking;
    struct kv_lazy *lazy; // infer/session/prune_lazy.c
} kv_pack;

// A batch is read in packs of whole sequences of about this many tokens, which bounds activations; of small models in
// smaller ones.
enum { KV_PACK_ROWS = 4096 };

// Whether packs are read side by side, each by one thread, rather than one after the other by all. A matter of the
// models' sizes alone.
bool kv_reads_apart(const kv_system *system);
// Whether one thread reads a pack that has nothing beside it, of so many rows.
bool kv_reads_alone(const kv_system *system, int64_t rows);

// How many sequences and rows a pack has at most (but for a single sequence, which may be longer), where n_reading
// sequences have tokens to be read.
typedef struct kv_pack_size {
    int64_t seqs, rows;
} kv_pack_size;
kv_pack_size kv_pack_limit(const kv_system *system, int64_t n_reading);

// The sequences [first, end) of a pack, with those among them that rest.
typedef struct kv_part {
    int64_t first, end;
    int64_t rows;  // that they have at most
    int64_t n_new; // ids of this part; `before`: of all parts before it
    int64_t before;
    int64_t thread; // which one reads it
} kv_part;

// Takes sequences from `next` on until the pack is full, or where queries are adapted, until the first that has
// predicted entries while others have none; sequences without new tokens are passed over.
kv_part kv_pack_part(const kv_session *session, const kv_reading *reading, const kv_pack_size *limit,
                     int64_t next);

// The pack of a part; reading->ids are its own. Keys stand in the cache behind the tokens there (in_cache), or are the
// pack's own rows. The arrays lie in the tape's arena. false when out of memory.
bool kv_pack_fill(kv_session *session, const kv_reading *reading, bool in_cache, const kv_part *part,
                  kv_pack *pack);

// Reads all packs of a reading; `read` does one, whose ids, positions and hidden `reading` has. Where packs are read side
// by side `session` is a copy with a tape of its own. Results do not depend on threads. The first pack that fails says
// why. See infer/session/team.c.
typedef kv_status kv_pack_fn(kv_session *session, kv_pack *pack, const kv_reading *reading, float *logits,
                             kv_error *err);
kv_status kv_read_packs(kv_session *session, const kv_reading *reading, bool in_cache, kv_pack_fn *read,
                        float *logits, kv_error *err);

// Rows of a pack, or others, go to their places in a layer's keys or values.
void kv_pack_store(const kv_pack *pack, float *cache, const kv_tensor *rows);
void kv_store_rows(const int64_t *places, float *cache, const kv_tensor *rows);

// Tokens of sequence s that stand before those of a reading.
static inline int64_t kv_reading_behind(const kv_session *session, const kv_reading *reading, int64_t s) {
    return reading->cached ? reading->cached[s] : session->lengths[s];
}

// Forgets all but the first `length` tokens of sequence s.
void kv_rewind_sequence(kv_session *session, int64_t s, int64_t length);

// Tokens through all layers of the base. logits [n_seq, vocab_size]: rows of resting sequences are left
// alone; NULL with `importance`: stop once the last layer's attention is known; NULL with `hidden`: there are
// none. Lengths of the cache change only when every pack went well. See infer/session/read.c.
kv_status kv_read_tokens(kv_session *session, kv_reading reading, float *logits, kv_error *err);

// Prompts by way of the aux and its predictors, behind what is there; on failure that is all that is left. See
// infer/session/predict.c.
kv_status kv_predicted_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths, float *logits,
                               kv_error *err);

// Prompts of which only some tokens are read: random, static, speculative. See infer/session/prune_prompt.c.
kv_status kv_pruned_prefill(kv_session *session, const int32_t *ids, const int64_t *lengths, int64_t n_ids,
                            float *logits, kv_error *err);

// Scores of all tokens of the sequences with lengths[s] > 0, one after the other; `scores` starts as zeros.
kv_status kv_static_scores(kv_session *session, const int32_t *ids, const int64_t *lengths, float *scores,
                           kv_error *err); // see infer/session/prune_static.c
kv_status kv_speculative_scores(kv_session *session, const int32_t *ids, const int64_t *lengths,
                                float *scores, kv_error *err); // see infer/session/prune_speculative.c

// Lazy pruning, asked by infer/session/read.c. begin: x holds the embedded new tokens. enter: forms the pack
// for a layer and returns its input. leave: takes the layer's output and chooses who goes on. false and NULL
// when memory ran out, noted on the tape. See infer/session/prune_lazy.c.
bool kv_lazy_begin(kv_session *session, kv_pack *pack, const kv_tensor *x);
kv_tensor *kv_lazy_enter(kv_session *session, kv_pack *pack, int64_t layer);
bool kv_lazy_leave(kv_session *session, kv_pack *pack, int64_t layer, const kv_tensor *y);
