// Runs at build time: turns files into a C source that holds their bytes, so that kveval needs no path to
// them.
//   embed OUTPUT.c FILE...
#include <errno.h>
#include <stdio.h>
#include <string.h>

// The file's name without directories and its last ending.
static void write_name(FILE *out, const char *path) {
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *end = strrchr(base, '.');
    fprintf(out, "\"%.*s\"", end ? (int)(end - base) : (int)strlen(base), base);
}

static int write_bytes(FILE *out, const char *path, int index) {
    FILE *in = fopen(path, "rb");
    if (!in) return -1;
    fprintf(out, "static const char text_%d[] = {", index);
    int byte;
    for (long n = 0; (byte = fgetc(in)) != EOF; n++)
        fprintf(out, "%s'\\x%02X',", n % 16 ? "" : "\n    ", (unsigned)byte);
    fputs("\n    '\\0'};\n\n", out);
    const int failed = ferror(in) ? -1 : 0;
    fclose(in);
    return failed;
}

static int write_source(FILE *out, char *const *paths, int n) {
    fputs("#include \"eval/published/published.h\"\n\n", out);
    for (int i = 0; i < n; i++)
        if (write_bytes(out, paths[i], i) != 0) {
            fprintf(stderr, "embed: %s: cannot read: %s\n", paths[i], strerror(errno));
            return -1;
        }
    fputs("const kv_published_file kv_published_files[] = {\n", out);
    for (int i = 0; i < n; i++) {
        fputs("    {", out);
        write_name(out, paths[i]);
        fprintf(out, ", text_%d},\n", i);
    }
    fputs("    {0, 0},\n};\n", out);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fputs("usage: embed OUTPUT.c FILE...\n", stderr);
        return 2;
    }
    FILE *out = fopen(argv[1], "w");
    int failed = !out || write_source(out, argv + 2, argc - 2) != 0;
    failed = (out && (ferror(out) || fclose(out) != 0)) || failed;
    if (failed) {
        fprintf(stderr, "embed: %s: not written\n", argv[1]);
        remove(argv[1]);
    }
    return failed;
}
