// What made the results: machine, threads, versions, configuration.
#pragma once

#include "eval/html/write.h"
#include "eval/results/results.h"

void kv_html_about(kv_html *html, const kv_results *results);
