// Runs at build time: turns files into a C source that holds their bytes, as an array of kv_embedded with one
// without a name at the end (data/file/embedded.h).
//   embed OUTPUT.c ARRAY FILE...
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

static int write_source(FILE *out, const char *array, char *const *paths, int n) {
    fprintf(out, "#include \"data/file/embedded.h\"\n\nextern const kv_embedded %s[];\n\n", array);
    for (int i = 0; i < n; i++)
        if (write_bytes(out, paths[i], i) != 0) {
            fprintf(stderr, "embed: %s: cannot read: %s\n", paths[i], strerror(errno));
            return -1;
        }
    fprintf(out, "const kv_embedded %s[] = {\n", array);
    for (int i = 0; i < n; i++) {
        fputs("    {", out);
        write_name(out, paths[i]);
        fprintf(out, ", text_%d},\n", i);
    }
    fputs("    {0, 0},\n};\n", out);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fputs("usage: embed OUTPUT.c ARRAY FILE...\n", stderr);
        return 2;
    }
    FILE *out = fopen(argv[1], "w");
    int failed = !out || write_source(out, argv[2], argv + 3, argc - 3) != 0;
    failed = (out && (ferror(out) || fclose(out) != 0)) || failed;
    if (failed) {
        fprintf(stderr, "embed: %s: not written\n", argv[1]);
        remove(argv[1]);
    }
    return failed;
}
