#include "tests/bench/machine.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 8192 };

// What /proc/cpuinfo says behind a key in its first paragraph that has it; "" where it says nothing.
static void cpu_fact(const char *key, char value[LINE]) {
    char line[LINE];
    FILE *file = fopen("/proc/cpuinfo", "r");
    *value = '\0';
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        const size_t n = strlen(key);
        if (!colon || strncmp(line, key, n) != 0 || strspn(line + n, " \t") != (size_t)(colon - line) - n)
            continue;
        colon += strspn(colon + 1, " \t") + 1;
        snprintf(value, LINE, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    if (file) fclose(file);
}

static json_t *cpu(void) {
    char vendor[LINE], family[LINE], model[LINE], text[256];
    cpu_fact("vendor_id", vendor), cpu_fact("cpu family", family), cpu_fact("model", model);
    if (!*vendor) // as ARM has it
        cpu_fact("CPU implementer", vendor), cpu_fact("CPU architecture", family),
            cpu_fact("CPU part", model);
    snprintf(text, sizeof text, "%.60s %.20s/%.20s", *vendor ? vendor : "unknown", *family ? family : "?",
             *model ? model : "?");
    return json_string(text);
}

static json_t *flags(void) {
    static const char *const wanted[] = {"avx",      "avx2",     "fma",         "f16c",
                                         "avx512f",  "avx512bw", "avx512_bf16", "amx_tile",
                                         "amx_bf16", "asimd",    "bf16",        "sve"};
    char all[LINE], padded[LINE + 2], word[32];
    json_t *list = json_array();
    cpu_fact("flags", all);
    if (!*all) cpu_fact("Features", all);
    snprintf(padded, sizeof padded, " %s ", all);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        snprintf(word, sizeof word, " %s ", wanted[i]);
        if (strstr(padded, word)) json_array_append_new(list, json_string(wanted[i]));
    }
    return list;
}

static json_t *openblas(void) {
    char version[64] = "", *config = openblas_get_config(), text[256];
    sscanf(config, "OpenBLAS %60s", version);
    snprintf(text, sizeof text, "%s %s", *version ? version : config, openblas_get_corename());
    return json_string(text);
}

static json_t *compiler(void) {
#ifdef __clang__
    return json_string("clang " __clang_version__);
#else
    return json_string("gcc " __VERSION__);
#endif
}

// Of the sources, "-dirty" behind it where they were changed; "unknown" without git.
static json_t *commit(const char *folder) {
    char command[4200], text[64] = "";
    if (strchr(folder, '\'')) return json_string("unknown");
    snprintf(command, sizeof command, "git -C '%s' describe --always --dirty --exclude '*' 2>/dev/null",
             folder);
    FILE *git = popen(command, "r");
    if (git && !fgets(text, sizeof text, git)) *text = '\0';
    if (git) pclose(git);
    text[strcspn(text, "\n")] = '\0';
    return json_string(*text ? text : "unknown");
}

static json_t *date(void) {
    char text[32];
    const time_t now = time(NULL);
    struct tm utc;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    return json_string(text);
}

json_t *bench_machine(const char *folder) {
    char model[LINE];
    double load = -1;
    cpu_fact("model name", model);
    getloadavg(&load, 1);
    return json_pack("{s:o,s:s,s:o,s:i,s:i,s:o,s:o,s:o,s:o,s:f}", "cpu", cpu(), "model", model, "flags",
                     flags(), "cores", (int)sysconf(_SC_NPROCESSORS_ONLN), "threads", omp_get_max_threads(),
                     "openblas", openblas(), "compiler", compiler(), "commit", commit(folder), "date", date(),
                     "load", load);
}
