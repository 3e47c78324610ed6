// One look for every family of systems, in every picture: what eval/plot/families.csv says, which
// notebooks/kvdraw.py reads, too. A line of it is a name, a colour and a marker; several names of one thing
// share both.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_plot_style {
    char colour[8];     // "#RRGGBB"
    int filled, hollow; // gnuplot's point types
    bool dotted;        // a white dot in the filled marker
} kv_plot_style;

// styles[n] of families[n], each there once. Capitals, blanks, hyphens, underscores, brackets and apostrophes make no
// difference. Names that are not in the table are given, by a hash of the name, a marker and one of the colours of its lines
// without a name, which no listed family has; of several that come to the same pair, only the first by the alphabet has it and
// the others the next ones. So neither the order of the rows nor the other families change how a family looks, but for that.
void kv_plot_family_styles(const char *const *families, int64_t n, kv_plot_style *styles);
