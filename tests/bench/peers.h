// Other people's programs at the same work, in the same run: PyTorch by way of peers.py, llama.cpp by its llama-bench.
#pragma once

#include <jansson.h>

typedef struct bench_peers bench_peers;

// Starts peers.py with so many threads. NULL, and why not on stderr, when it does not start.
bench_peers *bench_peers_start(const char *python, const char *script, int threads);
void bench_peers_stop(bench_peers *peers); // NULL is fine

// Makes it ready for a request as phases have them (borrowed), and runs it once to warm up: seconds of that; NAN, and why
// on stderr, when it cannot do it.
double bench_peers_prepare(bench_peers *peers, const json_t *request);
double bench_peers_run(bench_peers *peers); // once more; NAN as above
const char *bench_peers_version(const bench_peers *peers);

// What llama-bench says of a file: prompts[n] tokens at once, and decoding. A list of what it ran, with seconds and
// tokens of each; NULL, and why on stderr, when it failed.
json_t *bench_llama(const char *program, const char *gguf, const int *prompts, int n, int threads);
