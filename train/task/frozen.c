// Of a converted model some of both types is there at once.
#include "train/task/frozen.h"

#include "core/flops.h"
#include "data/checkpoint/shared.h"

// ---- Holding -------------------------------------------------------------------------------------------

// A kv_frozen_load. Without a fingerprint to take, nothing is to be done for a model that is not kept.
static kv_status load(void *context, kv_model **model, char *fingerprint, kv_error *err) {
    const kv_frozen *f = context;
    *model = NULL;
    if (!f->kept && !fingerprint) return KV_OK;
    kv_status status = f->read ? f->read(f->context, model, err)
                               : kv_checkpoint_load_known(f->dir, f->spec, false, model, err);
    if (status != KV_OK) return status;
    if (f->kept) {
        status = kv_checkpoint_convert(model, f->dtype, fingerprint, err);
        return status == KV_OK ? KV_OK : kv_fail_within(err, status, "%s", f->dir);
    }
    kv_checkpoint_fingerprint(*model, fingerprint);
    kv_model_free(*model);
    *model = NULL;
    return KV_OK;
}

kv_status kv_hold_frozen(const kv_frozen *frozen, kv_model **model, char fingerprint[17], kv_error *err) {
    kv_frozen own = *frozen;
    return kv_share_frozen(frozen->spec, frozen->dir, load, &own, model, fingerprint, err);
}

// ---- What it takes -------------------------------------------------------------------------------------

kv_frozen_memory kv_frozen_model_memory(const kv_model_spec *spec, const kv_checkpoint_size *size,
                                        kv_frozen_dtype dtype, bool as_a_whole) {
    const double n = (double)kv_spec_size(spec, true), stored = (double)size->bytes;
    const double table = (double)(spec->vocab_size * spec->model_dim) * (size->wide ? 4 : 2);
    kv_frozen_memory m = {.stored = stored, .held = stored};
    if (dtype == KV_FROZEN_STORED || (dtype == KV_FROZEN_F32) == size->wide) return m;
    m.held = n * (dtype == KV_FROZEN_F32 ? 4 : 2);
    m.converted = true;
    m.while_it = as_a_whole ? (stored > m.held ? stored - m.held : 0) : table;
    return m;
}
