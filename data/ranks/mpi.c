// The transport over MPI: the only file that includes the header of MPI. It is compiled into a module of its own for each MPI library,
// since libraries differ in more than their names, and a program that nobody launched is to load none of them.
//
// Every call is a non-blocking one that is asked about until it is done: MPI libraries wait by spinning, which is quickest
// where each rank has its cores for itself and ruinous where it has not. Here a rank that has waited for a while sleeps
// between two looks.
#include "data/ranks/transport.h"

#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct kv_ranks_request {
    MPI_Request request;
    int *numbers; // counts and places, which MPI reads until it is done
};

static kv_transport_fail *fail;
static kv_ranks_place place;
// Collectives of one communicator are begun in the same order by all; spreads have one of their own, so that they may be begun
// whenever what they spread is there.
static MPI_Comm everyone = MPI_COMM_NULL, spreading = MPI_COMM_NULL, node = MPI_COMM_NULL;

// Counts are ints: what is longer goes in pieces.
enum { PIECE = 1 << 30, TAG = 1 };

static void check(const char *call, int code) {
    char text[MPI_MAX_ERROR_STRING], line[MPI_MAX_ERROR_STRING + 64];
    int length = 0;
    if (code == MPI_SUCCESS) return;
    MPI_Error_string(code, text, &length);
    snprintf(line, sizeof line, "%s failed: %.*s", call, length, text);
    fail(line);
}

// ---- Waiting -------------------------------------------------------------------------------------------

static void look_again(int64_t *looks) {
    enum { EAGER = 2000 };
    static const struct timespec pause = {.tv_nsec = 50000};
    if (++*looks < EAGER)
        sched_yield();
    else
        nanosleep(&pause, NULL);
}

static void finish(const char *call, int code, MPI_Request *request) {
    int done = 0;
    int64_t looks = 0;
    check(call, code);
    for (;;) {
        check(call, MPI_Test(request, &done, MPI_STATUS_IGNORE));
        if (done) return;
        look_again(&looks);
    }
}

static kv_ranks_request *new_request(void) {
    kv_ranks_request *r = calloc(1, sizeof *r);
    if (r) r->numbers = calloc(4 * (size_t)place.n_ranks, sizeof *r->numbers);
    if (!r || !r->numbers) fail("out of memory for a message");
    return r;
}

// Between two looks at several requests, of which nothing has come.
static void rest(int64_t *looks) {
    look_again(looks);
}

static bool done(kv_ranks_request *r) {
    int is_done = 1;
    if (r) check("MPI_Test", MPI_Test(&r->request, &is_done, MPI_STATUS_IGNORE));
    return is_done;
}

static void wait(kv_ranks_request *r) {
    if (!r) return;
    finish("MPI_Test", MPI_SUCCESS, &r->request);
    free(r->numbers);
    free(r);
}

// ---- Joining and leaving -------------------------------------------------------------------------------

static kv_ranks_place join(kv_transport_fail *on_failure) {
    int provided;
    fail = on_failure;
    check("MPI_Init_thread", MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided));
    if (provided < MPI_THREAD_FUNNELED) fail("this MPI cannot be used by a program that has threads");
    // Apart from whoever else in this process may speak.
    check("MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &everyone));
    check("MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &spreading));
    check("MPI_Comm_rank", MPI_Comm_rank(everyone, &place.rank));
    check("MPI_Comm_size", MPI_Comm_size(everyone, &place.n_ranks));
    check("MPI_Comm_split_type",
          MPI_Comm_split_type(everyone, MPI_COMM_TYPE_SHARED, place.rank, MPI_INFO_NULL, &node));
    check("MPI_Comm_rank", MPI_Comm_rank(node, &place.node_rank));
    check("MPI_Comm_size", MPI_Comm_size(node, &place.node_ranks));
    MPI_Comm_set_errhandler(everyone, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(spreading, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(node, MPI_ERRORS_RETURN);
    return place;
}

static void leave(void) {
    MPI_Comm_free(&node);
    MPI_Comm_free(&spreading);
    MPI_Comm_free(&everyone);
    MPI_Finalize();
}

static void give_up(int code) {
    MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

static const char *library(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n\r")] = '\0';
    for (char *c = text; *c; c++)
        if (*c == '\t') *c = ' ';
    return text;
}

// ---- Collectives ---------------------------------------------------------------------------------------

static void barrier(bool of_node) {
    MPI_Request request;
    finish("MPI_Ibarrier", MPI_Ibarrier(of_node ? node : everyone, &request), &request);
}

static int piece_of(size_t left) {
    return left > PIECE ? PIECE : (int)left;
}

static void broadcast(bool of_node, void *data, size_t size, int from) {
    char *at = data;
    for (size_t left = size; left > 0;) {
        MPI_Request request;
        const int n = piece_of(left);
        finish("MPI_Ibcast", MPI_Ibcast(at, n, MPI_BYTE, from, of_node ? node : everyone, &request),
               &request);
        at += n, left -= (size_t)n;
    }
}

static void gather(const void *mine, size_t size, void *all) {
    MPI_Request request;
    if (size * (size_t)place.n_ranks <= PIECE) {
        finish("MPI_Iallgather",
               MPI_Iallgather(mine, (int)size, MPI_BYTE, all, (int)size, MPI_BYTE, everyone, &request),
               &request);
        return;
    }
    memcpy((char *)all + size * (size_t)place.rank, mine, size);
    for (int r = 0; r < place.n_ranks; r++) broadcast(false, (char *)all + size * (size_t)r, size, r);
}

static void send(const void *data, size_t size, int to) {
    const char *at = data;
    for (size_t left = size; left > 0;) {
        MPI_Request request;
        const int n = piece_of(left);
        finish("MPI_Isend", MPI_Isend(at, n, MPI_BYTE, to, TAG, everyone, &request), &request);
        at += n, left -= (size_t)n;
    }
}

static void receive(void *data, size_t size, int from) {
    char *at = data;
    for (size_t left = size; left > 0;) {
        MPI_Request request;
        const int n = piece_of(left);
        finish("MPI_Irecv", MPI_Irecv(at, n, MPI_BYTE, from, TAG, everyone, &request), &request);
        at += n, left -= (size_t)n;
    }
}

// ---- While something else is computed ------------------------------------------------------------------

static void set_pieces(const int64_t *begins, int *counts, int *places) {
    for (int r = 0; r < place.n_ranks; r++) {
        counts[r] = (int)(begins[r + 1] - begins[r]);
        places[r] = (int)begins[r];
    }
}

static kv_ranks_request *begin_scatter(const float *values, const int64_t *begins, float *received) {
    kv_ranks_request *r = new_request();
    int *counts = r->numbers, *places = counts + place.n_ranks, *got = places + place.n_ranks,
        *got_at = got + place.n_ranks;
    set_pieces(begins, counts, places);
    for (int i = 0; i < place.n_ranks; i++) got[i] = counts[place.rank], got_at[i] = i * counts[place.rank];
    check("MPI_Ialltoallv", MPI_Ialltoallv(values, counts, places, MPI_FLOAT, received, got, got_at,
                                           MPI_FLOAT, everyone, &r->request));
    return r;
}

static kv_ranks_request *begin_spread(float *values, const int64_t *begins) {
    kv_ranks_request *r = new_request();
    int *counts = r->numbers, *places = counts + place.n_ranks;
    set_pieces(begins, counts, places);
    check("MPI_Iallgatherv", MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, counts, places,
                                             MPI_FLOAT, spreading, &r->request));
    return r;
}

const kv_transport kv_transport_functions = {
    sizeof(kv_transport), join,         leave, give_up, library, barrier, broadcast, gather, send, receive,
    begin_scatter,        begin_spread, done,  wait,    rest};
