// Scores against savings as pictures inside the page: those of eval/report/pictures.h, drawn by ourselves, once for each pair of
// axes, so that choosing others takes no script.
#pragma once

#include "eval/html/write.h"
#include "eval/results/points.h"

// The section of the page; of results with tasks. settings: what is shown at first, and what is drawn beside the points.
kv_status kv_html_curve(kv_html *html, const kv_results *results, const kv_points_settings *settings,
                        kv_error *err);
