// What ranks do together, over whichever transport there is. That nobody waits for one who has gone rests on two things:
// failures are agreed on before the next collective, and a rank that ends without that ends the others (watch.h).
#include "data/ranks/ranks.h"

#include "data/ranks/binary.h"
#include "data/ranks/launch.h"
#include "data/ranks/link.h"
#include "data/ranks/transport.h"
#include "data/ranks/watch.h"
#include "data/system/console.h"
#include "data/system/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// There is one set of them in a process, as there is one terminal.
static const kv_transport *transport = &kv_transport_alone;
static kv_ranks_place place = {.n_ranks = 1, .node_ranks = 1};
static int n_nodes = 1;
static char (*hosts)[KV_HOST_SIZE]; // [n_ranks]
static bool agreed_failure, ended;
static char last_words[sizeof((kv_error *)0)->message];

int kv_rank(void) {
    return place.rank;
}
int kv_n_ranks(void) {
    return place.n_ranks;
}
bool kv_rank_leads(void) {
    return place.rank == 0;
}
int kv_node_rank(void) {
    return place.node_rank;
}
int kv_node_ranks(void) {
    return place.node_ranks;
}
int kv_n_nodes(void) {
    return n_nodes;
}
const char *kv_ranks_library(void) {
    return transport->library();
}

const char *kv_rank_host(int rank) {
    return hosts ? hosts[rank] : kv_own_host();
}

// ---- Joining -------------------------------------------------------------------------------------------

// Rank 0 speaks for all. What only one has to say goes to the stream it had (kv_watch_start keeps it).
static void silence(void) {
    if (place.rank == 0 || getenv("KV_RANKS_LOUD")) return;
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0) return;
    fflush(stdout);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    close(nowhere);
}

static void learn_hosts(void) {
    hosts = calloc((size_t)place.n_ranks, sizeof *hosts);
    if (!hosts) kv_watch_fatal("out of memory");
    transport->gather(kv_own_host(), KV_HOST_SIZE, hosts);
    double first = place.node_rank == 0;
    kv_ranks_sum(&first, 1);
    n_nodes = (int)first;
}

static kv_status check_binaries(kv_error *err) {
    char hashes[KV_BINARY_TEXT];
    kv_status status = kv_ranks_agree(kv_binary_hashes(transport, hashes, err), err);
    if (status == KV_OK) status = kv_ranks_same("the program, or its module for MPI,", hashes, err);
    return status == KV_OK ? kv_ranks_same("the MPI library", transport->library(), err) : status;
}

// Who leaves without a word to MPI would be a failure to the launcher, be it for a page of help.
static void at_exit(void) {
    if (!ended && place.n_ranks > 1 && kv_watch_exits()) transport->leave();
}

kv_status kv_ranks_start(kv_error *err) {
    kv_status status = kv_launch_transport(&transport, err);
    if (status != KV_OK) return status;
    if (transport != &kv_transport_alone) kv_watch_prepare();
    place = transport->join(kv_watch_fatal);
    if (transport != &kv_transport_alone) kv_watch_start(transport, &place);
    if (place.n_ranks == 1) return KV_OK;
    silence();
    atexit(at_exit);
    kv_mapped_tell(kv_watch_failed);
    learn_hosts();
    return check_binaries(err);
}

// ---- Leaving -------------------------------------------------------------------------------------------

void kv_ranks_last_words(const char *message) {
    snprintf(last_words, sizeof last_words, "%s", message);
}

int kv_ranks_end(int code) {
    if (place.n_ranks > 1 && code != 0 && !agreed_failure) kv_watch_failed(last_words, code);
    ended = true;
    kv_watch_end(code);
    transport->leave();
    free(hosts);
    hosts = NULL;
    transport = &kv_transport_alone;
    place = transport->join(NULL);
    n_nodes = 1;
    return code;
}

// ---- Agreement -----------------------------------------------------------------------------------------

// The rank whose failure is everybody's; -1: none has failed.
static int chosen(const kv_error *errors) {
    int interrupted = -1;
    for (int r = 0; r < place.n_ranks; r++) {
        if (errors[r].code != KV_OK && errors[r].code != KV_ERR_INTERRUPTED) return r;
        if (errors[r].code != KV_OK && interrupted < 0) interrupted = r;
    }
    return interrupted;
}

static bool all_say(const kv_error *errors, const kv_error *one) {
    bool same = true;
    for (int r = 0; r < place.n_ranks; r++)
        same = same && errors[r].code == one->code && strcmp(errors[r].message, one->message) == 0;
    return same;
}

static kv_status take_failure(kv_status status, kv_error *err) {
    kv_error *errors = calloc((size_t)place.n_ranks, sizeof *errors), mine = {0};
    if (!errors) kv_watch_fatal("out of memory");
    if (status != KV_OK && err) mine = *err;
    mine.code = status;
    transport->gather(&mine, sizeof mine, errors);
    const int rank = chosen(errors);
    const kv_error found = errors[rank];
    const bool together = all_say(errors, &found);
    free(errors);
    agreed_failure = true;
    if (err) *err = found;
    // What was agreed on before has its rank in front.
    char name[KV_HOST_SIZE + 32];
    snprintf(name, sizeof name, "rank %d (%s): ", rank, kv_rank_host(rank));
    const bool named = strncmp(found.message, name, strlen(name)) == 0;
    if (together || named || found.code == KV_ERR_INTERRUPTED) return found.code;
    return kv_fail_within(err, found.code, "rank %d (%s)", rank, kv_rank_host(rank));
}

static bool anywhere(bool here) {
    double n = here;
    kv_ranks_sum(&n, 1);
    return n > 0;
}

kv_status kv_ranks_agree(kv_status status, kv_error *err) {
    if (place.n_ranks == 1 || !anywhere(status != KV_OK)) return status;
    return take_failure(status, err);
}

bool kv_ranks_failed_together(void) {
    return place.n_ranks == 1 || agreed_failure;
}

bool kv_ranks_interrupted(void) {
    if (place.n_ranks == 1) return kv_console_interrupted();
    int *all = calloc((size_t)place.n_ranks, sizeof *all), first = 0;
    if (!all) kv_watch_fatal("out of memory");
    const int mine = kv_console_signal();
    transport->gather(&mine, sizeof mine, all);
    for (int r = 0; r < place.n_ranks && first == 0; r++) first = all[r];
    free(all);
    if (first) kv_console_take_signal(first);
    return first != 0;
}

enum { HASH_SIZE = 72 };

kv_status kv_ranks_same(const char *what, const char *hash, kv_error *err) {
    if (place.n_ranks == 1) return KV_OK;
    char mine[HASH_SIZE] = "", (*all)[HASH_SIZE] = calloc((size_t)place.n_ranks, sizeof *all);
    kv_status status = kv_ranks_agree(all ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory"), err);
    snprintf(mine, sizeof mine, "%s", hash);
    if (status == KV_OK) transport->gather(mine, sizeof mine, all);
    for (int r = 1; status == KV_OK && r < place.n_ranks; r++)
        if (strcmp(all[r], all[0]) != 0)
            status = kv_fail(err, KV_ERR_MISMATCH,
                             "rank %d (%s): %s differs from that of rank 0 (%s): found %s, expected %s", r,
                             kv_rank_host(r), what, kv_rank_host(0), all[r], all[0]);
    free(all);
    agreed_failure = agreed_failure || status != KV_OK;
    return status;
}

// ---- Collectives ---------------------------------------------------------------------------------------

void kv_ranks_barrier(void) {
    transport->barrier(false);
}
void kv_ranks_broadcast(void *data, size_t size, int from) {
    transport->broadcast(false, data, size, from);
}
void kv_ranks_gather(const void *mine, size_t size, void *all) {
    transport->gather(mine, size, all);
}
void kv_node_barrier(void) {
    transport->barrier(true);
}
void kv_node_broadcast(void *data, size_t size, int from) {
    transport->broadcast(true, data, size, from);
}
void kv_ranks_send(const void *data, size_t size, int to) {
    transport->send(data, size, to);
}
void kv_ranks_receive(void *data, size_t size, int from) {
    transport->receive(data, size, from);
}

// In pieces: room for what all ranks say of a piece is enough.
void kv_ranks_sum(double *values, int64_t n) {
    enum { PIECE = 4096 };
    if (place.n_ranks == 1) return;
    double *all = malloc((size_t)place.n_ranks * PIECE * sizeof *all);
    if (!all) kv_watch_fatal("out of memory for a sum");
    for (int64_t i = 0; i < n; i += PIECE) {
        const int64_t m = n - i < PIECE ? n - i : PIECE;
        transport->gather(values + i, (size_t)m * sizeof *values, all);
        memcpy(values + i, all, (size_t)m * sizeof *values);
        for (int r = 1; r < place.n_ranks; r++)
            for (int64_t k = 0; k < m; k++) values[i + k] += all[r * m + k];
    }
    free(all);
}

static kv_status receive_all(char *text, const size_t *sizes) {
    for (int r = 1; r < place.n_ranks; r++) {
        text += sizes[r - 1];
        transport->receive(text, sizes[r], r);
    }
    return KV_OK;
}

kv_status kv_ranks_collect(const void *mine, size_t size, char **all, size_t *sizes, kv_error *err) {
    size_t total = 0;
    *all = NULL;
    transport->gather(&size, sizeof size, sizes);
    for (int r = 0; r < place.n_ranks; r++) total += sizes[r];
    if (place.rank == 0) *all = malloc(total + 1);
    kv_status status = place.rank > 0 || *all
                           ? KV_OK
                           : kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu bytes of all ranks", total);
    status = kv_ranks_agree(status, err);
    if (status != KV_OK) {
        free(*all);
        *all = NULL;
        return status;
    }
    if (place.rank > 0) {
        transport->send(mine, size, 0);
        return KV_OK;
    }
    if (size > 0) memcpy(*all, mine, size);
    (*all)[total] = '\0';
    return receive_all(*all, sizes);
}

// ---- While something else is computed ------------------------------------------------------------------

kv_ranks_request *kv_ranks_begin_scatter(const float *values, const int64_t *begins, float *received) {
    return transport->begin_scatter(values, begins, received);
}
kv_ranks_request *kv_ranks_begin_spread(float *values, const int64_t *begins) {
    return transport->begin_spread(values, begins);
}
bool kv_ranks_done(kv_ranks_request *request) {
    return transport->done(request);
}
void kv_ranks_wait(kv_ranks_request *request) {
    transport->wait(request);
}
void kv_ranks_rest(int64_t *looks) {
    transport->rest(looks);
}
