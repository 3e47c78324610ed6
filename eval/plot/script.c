// gnuplot reports some failures only by what it leaves: a picture counts when its end is there.
#include "data/system/gnuplot.h"
#include "eval/plot/page.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A picture cut short by a full disk lacks its end.
static bool ends_with(const char *path, const char *end, size_t size) {
    char tail[16];
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    const bool whole = fseek(file, -(long)size, SEEK_END) == 0 && fread(tail, 1, size, file) == size &&
                       memcmp(tail, end, size) == 0;
    fclose(file);
    return whole;
}

// What a whole picture ends with.
static const struct {
    const char *ending, *last[3];
    size_t size[3];
} kinds[] = {{"svg", {"</svg>\n\n", "</svg>\n", "</svg>"}, {8, 7, 6}},
             {"png", {"IEND\xAE\x42\x60\x82"}, {8}},
             {"pdf", {"%%EOF\n", "%%EOF"}, {6, 5}}};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

// Leaves of the pictures what is whole, unless gnuplot found fault with its script.
static void check_pictures(const char *dir, const char *name, bool drawn, const char *why,
                           char note[KV_PLOT_NOTE]) {
    char missing[64] = "";
    for (int k = 0; k < N_KINDS; k++) {
        char path[PATH_MAX];
        bool whole = false;
        snprintf(path, sizeof path, "%s/%s.%s", dir, name, kinds[k].ending);
        for (int i = 0; i < 3 && drawn && kinds[k].last[i] && !whole; i++)
            whole = ends_with(path, kinds[k].last[i], kinds[k].size[i]);
        if (whole) continue;
        unlink(path);
        snprintf(missing + strlen(missing), sizeof missing - strlen(missing), "%s%s.%s", *missing ? ", " : "",
                 name, kinds[k].ending);
    }
    if (*missing) snprintf(note, KV_PLOT_NOTE, "%s not drawn: %s", missing, *why ? why : "gnuplot failed");
}

// ---- Files ---------------------------------------------------------------------------------------------

static FILE *create(const char *dir, const char *name, const char *ending, kv_error *err) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, ending);
    FILE *file = fopen(path, "w");
    if (!file) kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return file;
}

static kv_status finish(FILE *file, const char *dir, const char *name, const char *ending, kv_error *err) {
    const bool failed = ferror(file) != 0;
    if (fclose(file) == 0 && !failed) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s/%s.%s: cannot write: %s", dir, name, ending,
                   strerror(errno ? errno : EIO));
}

static kv_status write_file(const kv_plot_writer *writer, bool script, const char *dir, const char *name,
                            const char *data_name, kv_error *err) {
    const char *ending = script ? "gp" : "dat";
    FILE *file = create(dir, name, ending, err);
    if (!file) return KV_ERR_IO;
    if (script) {
        fprintf(file, "# Draws %s.svg, .png and .pdf from %s:  gnuplot %s.gp\n", name, data_name, name);
        writer->script(writer->picture, name, file);
    } else
        writer->data(writer->picture, file);
    return finish(file, dir, name, ending, err);
}

kv_status kv_plot_render(const kv_plot_writer *writer, const char *dir, const char *name,
                         char note[KV_PLOT_NOTE], kv_error *err) {
    char data[NAME_MAX], script[NAME_MAX], why[128] = "";
    snprintf(data, sizeof data, "%s.dat", name);
    snprintf(script, sizeof script, "%s.gp", name);
    kv_status status = write_file(writer, false, dir, name, data, err);
    if (status == KV_OK) status = write_file(writer, true, dir, name, data, err);
    if (status != KV_OK) return status;
    int exit_status = 0;
    const int failure = kv_gnuplot_file(dir, script, &exit_status);
    if (failure) kv_gnuplot_why(failure, why);
    check_pictures(dir, name, failure == 0 && exit_status == 0, why, note);
    return KV_OK;
}
