// Pictures of how near predicted caches are to the base's own: layer by layer, and what systems keep of their base against it.
#pragma once

#include "eval/plot/plot.h"
#include "eval/results/results.h"

// layers.*: the cosine of attention outputs and the explained variance of keys and of values, a curve for each system, where
// systems were looked at. fidelity.*: what is kept against the mean cosine and against the mean explained variance
// (eval/results/fidelity.h), a point for each system, with their correlation, where they were asked something too.
kv_status kv_fidelity_draw(const kv_results *results, const char *dir, char note[KV_PLOT_NOTE],
                           kv_error *err);
