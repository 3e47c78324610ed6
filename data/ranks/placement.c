// What the system says of the CPUs that a process may use, and what that means for all ranks together.
#include "data/ranks/placement.h"

#include "data/ranks/ranks.h"
#include "data/system/warning.h"

#include <dirent.h>
#include <omp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Sets ----------------------------------------------------------------------------------------------

static void add(kv_cpu_set *set, int cpu) {
    if (cpu >= 0 && cpu < KV_PLACEMENT_CPUS) set->bits[cpu / 64] |= (uint64_t)1 << cpu % 64;
}

static bool holds(const kv_cpu_set *set, int cpu) {
    return set->bits[cpu / 64] >> cpu % 64 & 1;
}

static int size_of(const kv_cpu_set *set) {
    int n = 0;
    for (int i = 0; i < KV_PLACEMENT_CPUS / 64; i++) n += __builtin_popcountll(set->bits[i]);
    return n;
}

static void join(kv_cpu_set *set, const kv_cpu_set *other) {
    for (int i = 0; i < KV_PLACEMENT_CPUS / 64; i++) set->bits[i] |= other->bits[i];
}

static bool overlap(const kv_cpu_set *a, const kv_cpu_set *b) {
    bool common = false;
    for (int i = 0; i < KV_PLACEMENT_CPUS / 64; i++) common = common || (a->bits[i] & b->bits[i]) != 0;
    return common;
}

// ---- Here ----------------------------------------------------------------------------------------------

// Where OpenMP binds threads, this one is bound to the first place, and the process has all of them. Where it does not, clang's
// knows places all the same.
static bool take_places(kv_cpu_set *set) {
    if (omp_get_proc_bind() == omp_proc_bind_false) return false;
    for (int place = 0; place < omp_get_num_places(); place++) {
        int ids[KV_PLACEMENT_CPUS];
        const int n = omp_get_place_num_procs(place);
        if (n <= 0 || n > KV_PLACEMENT_CPUS) continue;
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < n; i++) add(set, ids[i]);
    }
    return size_of(set) > 0;
}

static void take_cpus(kv_cpu_set *set) {
    cpu_set_t allowed;
    if (take_places(set) || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    for (int cpu = 0; cpu < CPU_SETSIZE && cpu < KV_PLACEMENT_CPUS; cpu++)
        if (CPU_ISSET(cpu, &allowed)) add(set, cpu);
}

// The first CPU of the same core: "0,64" or "0-1" of CPU 64 or 1. Where the system does not say, each is a core.
static int core_of(int cpu) {
    char path[96];
    int first = cpu;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "r");
    if (!file) return cpu;
    if (fscanf(file, "%d", &first) != 1) first = cpu;
    fclose(file);
    return first;
}

// "node0", "node1", ...
static int count_numa(void) {
    int n = 0;
    DIR *dir = opendir("/sys/devices/system/node");
    if (!dir) return 1;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        const char *name = entry->d_name;
        n += strncmp(name, "node", 4) == 0 && name[4] && strspn(name + 4, "0123456789") == strlen(name + 4);
    }
    closedir(dir);
    return n > 0 ? n : 1;
}

void kv_placement_here(kv_placement *here) {
    static const char *const names[] = {[omp_proc_bind_false] = "",
                                        [omp_proc_bind_true] = "true",
                                        [omp_proc_bind_master] = "primary",
                                        [omp_proc_bind_close] = "close",
                                        [omp_proc_bind_spread] = "spread"};
    const char *places = getenv("OMP_PLACES");
    const int bind = (int)omp_get_proc_bind(), n_names = (int)(sizeof names / sizeof *names);
    memset(here, 0, sizeof *here);
    snprintf(here->host, sizeof here->host, "%s", kv_rank_host(kv_rank()));
    here->n_threads = omp_get_max_threads();
    take_cpus(&here->cpus);
    for (int cpu = 0; cpu < KV_PLACEMENT_CPUS; cpu++)
        if (holds(&here->cpus, cpu)) add(&here->cores, core_of(cpu));
    here->host_cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    here->host_numa = count_numa();
    snprintf(here->bind, sizeof here->bind, "%s", bind >= 0 && bind < n_names ? names[bind] : "true");
    snprintf(here->places, sizeof here->places, "%s", *here->bind && places ? places : "");
}

// ---- All of them ---------------------------------------------------------------------------------------

static bool same_host(const kv_placement *a, const kv_placement *b) {
    return strcmp(a->host, b->host) == 0;
}

static bool is_first_of_host(const kv_placement *all, int rank) {
    for (int r = 0; r < rank; r++)
        if (same_host(&all[r], &all[rank])) return false;
    return true;
}

// "8", or "6 to 8".
static const char *span(int low, int high, char text[32]) {
    snprintf(text, 32, low == high ? "%d" : "%d to %d", low, high);
    return text;
}

struct spans {
    int n_hosts, on_host[2], threads[2], cpus[2], host_cpus[2], numa[2]; // least, most
    bool bound, unlike;                                                  // of all: pinned; bound otherwise
};

static void widen(int range[2], int value, bool first) {
    if (first || value < range[0]) range[0] = value;
    if (first || value > range[1]) range[1] = value;
}

static struct spans measure(const kv_placement *all, int n_ranks) {
    struct spans s = {.bound = true};
    for (int r = 0; r < n_ranks; r++) {
        const int n_cpus = size_of(&all[r].cpus);
        widen(s.threads, all[r].n_threads, r == 0);
        widen(s.cpus, n_cpus, r == 0);
        s.bound = s.bound && n_cpus < all[r].host_cpus;
        s.unlike = s.unlike || strcmp(all[r].bind, all[0].bind) || strcmp(all[r].places, all[0].places);
        if (!is_first_of_host(all, r)) continue;
        int here = 0;
        for (int other = 0; other < n_ranks; other++) here += same_host(&all[other], &all[r]);
        widen(s.on_host, here, s.n_hosts == 0);
        widen(s.host_cpus, all[r].host_cpus, s.n_hosts == 0);
        widen(s.numa, all[r].host_numa, s.n_hosts == 0);
        s.n_hosts++;
    }
    return s;
}

// The first few names.
static void put_hosts(const kv_placement *all, int n_ranks, FILE *out) {
    enum { MOST = 4 };
    int n = 0;
    for (int r = 0; r < n_ranks && n <= MOST; r++)
        if (is_first_of_host(all, r) && n++ < MOST) fprintf(out, "%s%s", n > 1 ? ", " : "", all[r].host);
    if (n > MOST) fputs(", ...", out);
}

static void put_binding(const kv_placement *first, const struct spans *s, FILE *out) {
    if (s->unlike)
        fputs(", threads bound differently from rank to rank", out);
    else if (!*first->bind)
        fputs(", threads not bound (OMP_PROC_BIND)", out);
    else
        fprintf(out, ", threads bound (OMP_PROC_BIND=%s%s%s)", first->bind,
                *first->places ? ", OMP_PLACES=" : "", first->places);
}

void kv_placement_line(const kv_placement *all, int n_ranks, FILE *out) {
    const struct spans s = measure(all, n_ranks);
    char a[32], b[32];
    fprintf(out, "%d ranks on %d host%s (", n_ranks, s.n_hosts, s.n_hosts > 1 ? "s" : "");
    put_hosts(all, n_ranks, out);
    fputc(')', out);
    if (s.n_hosts > 1) fprintf(out, ", %s on each", span(s.on_host[0], s.on_host[1], a));
    fprintf(out, "; %s thread%s a rank, ", span(s.threads[0], s.threads[1], a), s.threads[1] == 1 ? "" : "s");
    if (s.bound)
        fprintf(out, "pinned to %s of %s CPUs", span(s.cpus[0], s.cpus[1], a),
                span(s.host_cpus[0], s.host_cpus[1], b));
    else
        fprintf(out, "not pinned, %s CPUs", span(s.host_cpus[0], s.host_cpus[1], b));
    put_binding(all, &s, out);
    fprintf(out, "; %s NUMA node%s a host", span(s.numa[0], s.numa[1], a), s.numa[1] == 1 ? "" : "s");
}

// ---- What is wrong -------------------------------------------------------------------------------------

static const char advice[] = "one rank a NUMA node with a thread for each of its cores is best "
                             "(configs/slurm/README.md#placement)";

static void doubt_threads(const kv_placement *all, int n_ranks, FILE *out) {
    int first = -1, n = 0;
    for (int r = n_ranks - 1; r >= 0; r--)
        if (all[r].n_threads > size_of(&all[r].cpus)) first = r, n++;
    if (n == 0) return;
    const int n_cpus = size_of(&all[first].cpus);
    char others[48] = "";
    if (n > 1) snprintf(others, sizeof others, ", and %d more rank%s likewise", n - 1, n > 2 ? "s" : "");
    fprintf(
        out,
        "rank %d (%s) has %d threads on %d CPU%s%s: OMP_NUM_THREADS and the launcher's binding do not fit; %s\n",
        first, all[first].host, all[first].n_threads, n_cpus, n_cpus == 1 ? "" : "s", others, advice);
}

// Of the host of rank `first`: whether two of its ranks share cores while there are fewer of these than threads.
static void doubt_host(const kv_placement *all, int n_ranks, int first, FILE *out) {
    kv_cpu_set together = {0};
    int n_threads = 0, n_here = 0, pair[2] = {-1, -1};
    for (int r = first; r < n_ranks; r++) {
        if (!same_host(&all[r], &all[first])) continue;
        for (int other = first; other < r && pair[0] < 0; other++)
            if (same_host(&all[other], &all[r]) && overlap(&all[other].cores, &all[r].cores))
                pair[0] = other, pair[1] = r;
        join(&together, &all[r].cores);
        n_threads += all[r].n_threads;
        n_here++;
    }
    if (pair[0] < 0 || n_threads <= size_of(&together)) return;
    fprintf(out, "ranks %d and %d share cores on %s, whose %d ranks have %d threads on %d core%s; %s\n",
            pair[0], pair[1], all[first].host, n_here, n_threads, size_of(&together),
            size_of(&together) == 1 ? "" : "s", advice);
}

void kv_placement_doubts(const kv_placement *all, int n_ranks, FILE *out) {
    doubt_threads(all, n_ranks, out);
    for (int r = 0; r < n_ranks; r++)
        if (is_first_of_host(all, r)) doubt_host(all, n_ranks, r, out);
}

// ---- Saying it -----------------------------------------------------------------------------------------

static void say(const char *program, const kv_placement *all, int n_ranks) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return;
    kv_placement_line(all, n_ranks, out);
    fputc('\n', out);
    kv_placement_doubts(all, n_ranks, out);
    if (fclose(out) != 0) return;
    char *rest = text, *line = strsep(&rest, "\n");
    fprintf(stderr, "%s: %s; %s\n", program, line, kv_ranks_library());
    while ((line = strsep(&rest, "\n")))
        if (*line) kv_warn("%s", line);
    free(text);
}

void kv_placement_announce(const char *program) {
    if (kv_n_ranks() == 1) return;
    kv_placement here, *all = calloc((size_t)kv_n_ranks(), sizeof *all);
    kv_placement_here(&here);
    // It would be said for the user's comfort; nothing depends on it.
    if (kv_ranks_agree(all ? KV_OK : KV_ERR_MEMORY, NULL) == KV_OK) {
        kv_ranks_gather(&here, sizeof here, all);
        if (kv_rank_leads()) say(program, all, kv_n_ranks());
    }
    free(all);
}
