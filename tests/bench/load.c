#include "tests/bench/load.h"

#include "data/system/console.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static const double least_seconds = 0.5; // processors count in hundredths of a second

// Of the first line of /proc/stat all but idle times.
static double busy_seconds(void) {
    double user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0, steal = 0;
    FILE *file = fopen("/proc/stat", "r");
    if (!file) return 0;
    const int n = fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &user, &nice, &system, &idle, &wait,
                         &irq, &soft, &steal);
    fclose(file);
    return n < 4 ? 0 : (user + nice + system + irq + soft + steal) / (double)sysconf(_SC_CLK_TCK);
}

static double own_seconds(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage)) return 0;
    return (double)usage.ru_utime.tv_sec + 1e-6 * (double)usage.ru_utime.tv_usec +
           (double)usage.ru_stime.tv_sec + 1e-6 * (double)usage.ru_stime.tv_usec;
}

static bench_load now(void) {
    return (bench_load){.wall = kv_now(), .busy = busy_seconds(), .own = own_seconds()};
}

void bench_load_begin(bench_load *load) {
    *load = now();
}

double bench_load_others(const bench_load *load) {
    const bench_load end = now();
    const double wall = end.wall - load->wall, others = (end.busy - load->busy) - (end.own - load->own);
    const double share = others / (wall * (double)sysconf(_SC_NPROCESSORS_ONLN));
    return wall < least_seconds || share < 0 ? 0 : share > 1 ? 1 : share;
}
