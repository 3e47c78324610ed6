// A figure that nobody can place is worth little: a time needs its machine, a score the code it was made by.
#include "data/file/made_by.h"

#include "core/gemm/isa.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/system/gnuplot.h"

#include <H5public.h>
#include <argp.h>
#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static char program_name[32] = "unknown", program_commit[64] = "unknown", version_line[160];

void kv_made_by_program(const char *name, const char *commit) {
    snprintf(program_name, sizeof program_name, "%s", name);
    snprintf(program_commit, sizeof program_commit, "%s", commit);
    snprintf(version_line, sizeof version_line, "%s %s (commit %s)", program_name, KV_VERSION,
             program_commit);
    argp_program_version = version_line;
}

// ---- The machine ---------------------------------------------------------------------------------------

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

static json_t *date(void) {
    char text[32];
    const time_t now = time(NULL);
    struct tm utc;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    return json_string(text);
}

// "Debian GNU/Linux 12 (bookworm), Linux 6.1.0": the kernel's version without what its builder added.
static json_t *os(void) {
    char line[256], name[200] = "", text[512];
    struct utsname kernel = {0};
    FILE *file = fopen("/etc/os-release", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "PRETTY_NAME=\"%199[^\"]", name) == 1) break;
    if (file) fclose(file);
    uname(&kernel);
    snprintf(text, sizeof text, "%s%s%s %.*s", name, *name ? ", " : "", kernel.sysname,
             (int)strspn(kernel.release, "0123456789."), kernel.release);
    return json_string(text);
}

// That of its header: asking the library would link it into programs that have no use for it.
static json_t *hdf5(void) {
    return json_sprintf("%d.%d.%d", H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
}

static json_t *gnuplot(void) {
    static const char script[] = "set print '-'\nprint sprintf('%.1f.%s', GPVAL_VERSION, GPVAL_PATCHLEVEL)\n";
    char *output = NULL;
    if (kv_gnuplot_text(script, sizeof script - 1, &output, NULL) != KV_OK) return json_null();
    output[strcspn(output, "\n")] = '\0';
    json_t *text = json_string(output);
    free(output);
    return text;
}

json_t *kv_made_by(bool draws) {
    char model[LINE];
    cpu_fact("model name", model);
    json_t *made_by =
        json_pack("{s:s,s:s,s:s,s:o,s:o,s:o,s:s,s:o,s:i,s:i,s:s,s:I,s:o,s:o,s:o}", "program", program_name,
                  "version", KV_VERSION, "commit", program_commit, "date", date(), "compiler", compiler(),
                  "cpu", cpu(), "model", model, "flags", flags(), "cores", (int)sysconf(_SC_NPROCESSORS_ONLN),
                  "threads", omp_get_max_threads(), "isa", kv_isa()->name, "memory",
                  (json_int_t)sysconf(_SC_PHYS_PAGES) * (json_int_t)sysconf(_SC_PAGESIZE), "os", os(),
                  "openblas", openblas(), "hdf5", hdf5());
    if (draws && made_by) json_object_set_new(made_by, "gnuplot", gnuplot());
    return made_by;
}

// ---- As text -------------------------------------------------------------------------------------------

char *kv_made_by_text(bool draws) {
    json_t *made_by = kv_made_by(draws);
    char *text = made_by ? json_dumps(made_by, JSON_COMPACT) : NULL;
    json_decref(made_by);
    return text;
}

static const char *text_of(const json_t *made_by, const char *key) {
    const char *text = json_string_value(json_object_get(made_by, key));
    return text && *text ? text : "unknown";
}

char *kv_made_by_line(const char *made_by, char line[KV_MADE_BY_LINE]) {
    json_t *m = kv_json_parse(made_by, strlen(made_by), 0, NULL);
    line[0] = '\0';
    if (json_is_object(m))
        snprintf(line, KV_MADE_BY_LINE,
                 "made by %s %s (commit %s) on %s: %s, %lld threads on %lld cores, %s, OpenBLAS %s; %s",
                 text_of(m, "program"), text_of(m, "version"), text_of(m, "commit"), text_of(m, "date"),
                 json_string_value(json_object_get(m, "model")) && *text_of(m, "model") ? text_of(m, "model")
                                                                                        : text_of(m, "cpu"),
                 (long long)json_integer_value(json_object_get(m, "threads")),
                 (long long)json_integer_value(json_object_get(m, "cores")), text_of(m, "isa"),
                 text_of(m, "openblas"), text_of(m, "os"));
    json_decref(m);
    return line;
}

json_t *kv_made_by_list(char *const *texts, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; list && i < n; i++) {
        json_t *made_by = kv_json_parse(texts[i], strlen(texts[i]), 0, NULL);
        if (made_by) json_array_append_new(list, made_by);
    }
    return list;
}

kv_status kv_made_by_write(const char *dir, char *const *texts, int64_t n, kv_error *err) {
    char path[PATH_MAX];
    const kv_status status = kv_path_join(dir, "made_by.json", path, err);
    if (status != KV_OK) return status;
    return kv_json_write(path, json_pack("{s:o}", "made_by", kv_made_by_list(texts, n)), JSON_INDENT(1), err);
}
