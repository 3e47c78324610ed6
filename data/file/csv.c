#include "data/file/csv.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kv_csv {
    char path[PATH_MAX];
    FILE *file;
    bool in_row;
};

kv_status kv_csv_create(const char *path, const char *header, kv_csv **csv, kv_error *err) {
    *csv = NULL;
    kv_csv *c = calloc(1, sizeof *c);
    if (!c) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    snprintf(c->path, sizeof c->path, "%s", path);
    c->file = fopen(path, "w");
    if (!c->file) {
        free(c);
        return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    fprintf(c->file, "%s\n", header);
    *csv = c;
    return KV_OK;
}

static void separate(kv_csv *csv) {
    if (csv->in_row) fputc(',', csv->file);
    csv->in_row = true;
}

void kv_csv_text(kv_csv *csv, const char *text) {
    separate(csv);
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, csv->file);
        return;
    }
    fputc('"', csv->file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', csv->file);
        fputc(*text, csv->file);
    }
    fputc('"', csv->file);
}

void kv_csv_number(kv_csv *csv, double value) {
    separate(csv);
    const double largest_whole = 9007199254740992.0; // 2^53
    if (value == floor(value) && fabs(value) <= largest_whole)
        fprintf(csv->file, "%.0f", value);
    else if (isfinite(value))
        fprintf(csv->file, "%.9g", value);
}

void kv_csv_end_row(kv_csv *csv) {
    fputc('\n', csv->file);
    csv->in_row = false;
}

kv_status kv_csv_close(kv_csv *csv, kv_status so_far, kv_error *err) {
    errno = 0;
    const bool failed = ferror(csv->file) != 0, flushed = fflush(csv->file) == 0;
    const int reason = errno;
    const bool closed = fclose(csv->file) == 0;
    kv_status status = so_far;
    if (status == KV_OK && (failed || !flushed || !closed))
        status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", csv->path, strerror(reason ? reason : EIO));
    free(csv);
    return status;
}
