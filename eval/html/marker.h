// The markers of families (eval/plot/families.h) as shapes of SVG.
#pragma once

#include "eval/html/write.h"
#include "eval/plot/families.h"

// Around (0, 0), about 12 across: an outline that stands out from what lies below it (class "halo"), the marker in its colour,
// and a white dot where the family has one. hollow: the outline of the marker alone.
void kv_html_marker(kv_html *html, const kv_plot_style *style, bool hollow);

// A small picture of its own, for a line of text.
void kv_html_marker_sign(kv_html *html, const kv_plot_style *style);
