// Of a converted model some of both types is there at once.
#include "train/task/frozen.h"

#include "core/flops.h"

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
