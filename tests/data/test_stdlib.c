// The source of the standard library: from a made-up Debian, whose every file is known; the same text every time, files held out by
// their paths alone, and a missing package named with what installs it. KVDATA names the program.
#include "tests/support/corpus.h"

#include "data/text/documents.h"
#include "data/text/dpkg.h"
#include "data/text/stdlib.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { n_modules = 60 };
static const char *const packages[] = {"minimal", "stdlib"};
static char root[128], out[4096], err[4096];

static const char *in_root(const char *path) {
    return test_path(root, path + 1);
}

// ---- A made-up Debian ----------------------------------------------------------------------------------

// What the two packages have beside n_modules modules, every second one each.
static const struct {
    const char *path, *text;
    size_t size; // 0: of the text
    bool in;
} others[] = {
    {"/usr/lib/python3.4/asyncio/log.py", "# a log\r\nx = 1\r\n", 0, true},
    {"/usr/lib/python3.4/testing.py", "assert True\n", 0, true},
    {"/usr/lib/python3.4/test/support.py", "assert False\n", 0, false},
    {"/usr/lib/python3.4/encodings/cp1.py", "table = {}\n", 0, false},
    {"/usr/lib/python3.4/pydoc_data/topics.py", "topics = {}\n", 0, false},
    {"/usr/lib/python3.4/_sysconfigdata_x.py", "build = {}\n", 0, false},
    {"/usr/lib/python3.4/empty.py", "", 0, false},
    {"/usr/lib/python3.4/latin.py", "# caf\xe9\n", 0, false},
    {"/usr/lib/python3.4/nul.py", "x\0y\n", 4, false},
};
enum { n_others = sizeof others / sizeof *others, n_left_out = 8 }; // with one link

static void write_record(int package) {
    char list[16384] =
        "/.\n/usr\n/usr/lib/python3.4\n/usr/lib/python3.4/LICENSE.txt\n/etc/python3.4/site.py\n",
         path[64];
    for (int i = package; i < n_modules; i += 2) {
        snprintf(path, sizeof path, "/usr/lib/python3.4/m%02d.py\n", i);
        strcat(list, path);
    }
    for (int i = 0; package == 1 && i < n_others; i++) strcat(strcat(list, others[i].path), "\n");
    if (package == 1) strcat(list, "/usr/lib/python3.4/link.py\n");
    snprintf(path, sizeof path, "/var/lib/dpkg/info/libpython3.4-%s%s.list", packages[package],
             package ? "" : ":orr64");
    test_write_text(in_root(path), list);
}

static void write_status(const char *state) {
    char status[2048];
    snprintf(
        status, sizeof status,
        "Package: libpython3.4-stdlib-doc\nStatus: install ok installed\nVersion: 1\n\n"
        "Package: libpython3-stdlib\nStatus: %s\nArchitecture: orr64\nDepends: libc, libpython3.4-stdlib (>= 3)\n"
        "Version: 3.4.0\n\n"
        "Package: libpython3.4-minimal\nStatus: install ok installed\nArchitecture: orr64\nVersion: 3.4.2-1\n\n"
        "Package: libpython3.4-stdlib\nStatus: install ok installed\nArchitecture: orr64\nVersion: 3.4.2-1\n"
        "Description: a library\n Version: 9\n",
        state);
    test_write_text(in_root("/var/lib/dpkg/status"), status);
}

static int set_up(void **state) {
    (void)state;
    test_dir_set_up(state);
    snprintf(root, sizeof root, "%s/root", test_dir);
    write_status("install ok installed");
    test_write_text(in_root("/var/lib/dpkg/info/libpython3-stdlib:orr64.list"), "/.\n");
    for (int package = 0; package < 2; package++) write_record(package);
    for (int i = 0; i < n_modules; i++) {
        char path[64], text[64];
        snprintf(path, sizeof path, "/usr/lib/python3.4/m%02d.py", i);
        snprintf(text, sizeof text, "def f%d():\n    return %d\n", i, i);
        test_write_text(in_root(path), text);
    }
    for (int i = 0; i < n_others; i++) {
        FILE *file;
        test_write_text(in_root(others[i].path), "");
        assert_non_null(file = fopen(in_root(others[i].path), "wb"));
        fwrite(others[i].text, 1, others[i].size ? others[i].size : strlen(others[i].text), file);
        assert_int_equal(fclose(file), 0);
    }
    return symlink("m00.py", in_root("/usr/lib/python3.4/link.py"));
}

static void collect(kv_stdlib *stdlib) {
    kv_error error = {0};
    if (kv_stdlib_collect(root, stdlib, &error)) fail_msg("%s", error.message);
}

static const kv_stdlib_file *find(const kv_stdlib *stdlib, const char *path) {
    for (int64_t i = 0; i < stdlib->n; i++)
        if (strcmp(stdlib->files[i].path, path) == 0) return &stdlib->files[i];
    return NULL;
}

// ---- What is in it -------------------------------------------------------------------------------------

static void files_of_both_packages(void **state) {
    (void)state;
    kv_stdlib stdlib;
    collect(&stdlib);
    assert_string_equal(stdlib.package, "libpython3.4-stdlib");
    assert_string_equal(stdlib.version, "3.4.2-1");
    assert_int_equal(stdlib.n, n_modules + 2);
    assert_int_equal(stdlib.left_out, n_left_out);
    for (int64_t i = 1; i < stdlib.n; i++)
        assert_true(strcmp(stdlib.files[i - 1].path, stdlib.files[i].path) < 0);
    for (int i = 0; i < n_others; i++) {
        const kv_stdlib_file *file = find(&stdlib, others[i].path + strlen("/usr/lib/python3.4/"));
        if ((file != NULL) != others[i].in) fail_msg("%s", others[i].path);
    }
    assert_string_equal(find(&stdlib, "m31.py")->text, "def f31():\n    return 31\n");
    assert_string_equal(find(&stdlib, "asyncio/log.py")->text, "# a log\nx = 1\n");
    kv_stdlib_free(&stdlib);
}

// A file goes where it went whatever else there is, and all text is in the hash.
static void paths_alone_decide(void **state) {
    (void)state;
    kv_stdlib before, after;
    collect(&before);
    int64_t files[2], bytes;
    for (int held_out = 0; held_out < 2; held_out++)
        kv_stdlib_count(&before, held_out, &files[held_out], &bytes);
    assert_int_equal(files[0] + files[1], before.n);
    assert_in_range(files[1], 2, n_modules / 4);
    test_write_text(in_root("/usr/lib/python3.4/m07.py"), "def f7():\n    return 8\n");
    test_write_text(in_root("/var/lib/dpkg/info/libpython3.4-minimal:orr64.list"), "/.\n");
    collect(&after);
    assert_int_equal(after.n, n_modules / 2 + 2);
    assert_string_not_equal(before.hash, after.hash);
    for (int64_t i = 0; i < after.n; i++)
        assert_int_equal(after.files[i].held_out, find(&before, after.files[i].path)->held_out);
    kv_stdlib_free(&after);
    write_record(0);
    collect(&after);
    assert_string_not_equal(before.hash, after.hash);
    test_write_text(in_root("/usr/lib/python3.4/m07.py"), "def f7():\n    return 7\n");
    kv_stdlib_free(&after);
    collect(&after);
    assert_string_equal(before.hash, after.hash);
    kv_stdlib_free(&after);
    kv_stdlib_free(&before);
}

// The real one, where there is one.
static void this_debian(void **state) {
    (void)state;
    kv_error error = {0};
    kv_stdlib stdlib;
    kv_dpkg_package package;
    kv_status status = kv_dpkg_find("", "libpython3-stdlib", &package, &error);
    const bool there = !status && package.version;
    kv_dpkg_free(&package);
    if (!there) skip();
    if (kv_stdlib_collect("", &stdlib, &error)) fail_msg("%s", error.message);
    const kv_stdlib_file *file = find(&stdlib, "argparse.py");
    assert_non_null(file);
    assert_non_null(strstr(file->text, "class ArgumentParser("));
    assert_null(find(&stdlib, "encodings/cp1252.py"));
    int64_t files[2], bytes[2];
    for (int held_out = 0; held_out < 2; held_out++)
        kv_stdlib_count(&stdlib, held_out, &files[held_out], &bytes[held_out]);
    assert_true(bytes[0] > 4000000 && bytes[1] > bytes[0] / 40 && bytes[1] < bytes[0] / 4);
    kv_stdlib_free(&stdlib);
}

// ---- Files ---------------------------------------------------------------------------------------------

static int run(const char *from, const char *to) {
    const char *arguments[] = {getenv("KVDATA"), "stdlib", "--root", from, "--out", to, NULL};
    return test_run(arguments, -1, out, err, sizeof out);
}

static int64_t count_texts(const char *path) {
    kv_documents *documents = NULL;
    const char *text = NULL;
    size_t length = 0;
    int64_t n = 0;
    assert_int_equal(kv_documents_open(path, &documents, NULL), KV_OK);
    while (kv_documents_next(documents, &text, &length, NULL) == KV_OK && text) n++;
    kv_documents_close(documents);
    return n;
}

static void same_library_same_bytes(void **state) {
    (void)state;
    static const char *const files[] = {"train.jsonl", "held_out.jsonl", "stdlib.json"};
    kv_stdlib stdlib;
    collect(&stdlib);
    for (int i = 0; i < 2; i++)
        if (run(root, test_path(test_dir, i ? "second" : "first")) != 0) fail_msg("%s", err);
    assert_non_null(strstr(out, stdlib.hash));
    assert_non_null(strstr(out, "libpython3.4-stdlib 3.4.2-1"));
    for (int i = 0; i < 3; i++) {
        char *first = test_read_text(test_path(test_path(test_dir, "first"), files[i]));
        char *second = test_read_text(test_path(test_path(test_dir, "second"), files[i]));
        assert_string_equal(first, second);
        if (i == 2) assert_non_null(strstr(first, stdlib.hash));
        // No path is in both splits.
        for (int64_t f = 0; i < 2 && f < stdlib.n; f++) {
            char line[128];
            snprintf(line, sizeof line, "{\"path\": \"%s\",", stdlib.files[f].path);
            if ((strstr(first, line) != NULL) != (stdlib.files[f].held_out == (i == 1))) fail_msg("%s", line);
        }
        free(first);
        free(second);
    }
    const char *dir = test_path(test_dir, "first");
    assert_int_equal(count_texts(test_path(dir, files[0])) + count_texts(test_path(dir, files[1])), stdlib.n);
    kv_stdlib_free(&stdlib);
}

// It fails with one line that says `expected`, and leaves nothing.
static void refuses(const char *from, const char *expected) {
    assert_int_equal(run(from, test_path(test_dir, "none")), 1);
    if (!strstr(err, expected) || strchr(err, '\n') != err + strlen(err) - 1)
        fail_msg("'%s' is not '%s'", err, expected);
    assert_int_equal(test_dir_count(test_path(test_dir, "none")), -1);
}

static void what_is_missing_is_named(void **state) {
    (void)state;
    refuses(
        test_path(test_dir, "nowhere"),
        "package libpython3-stdlib (apt-get install libpython3-stdlib): no records of Debian's packages: ");
    write_status("deinstall ok config-files");
    refuses(root, "package libpython3-stdlib is not installed (apt-get install libpython3-stdlib)");
    write_status("install ok installed");
    char *gone = strdup(in_root("/usr/lib/python3.4/m10.py"));
    unlink(gone);
    refuses(root,
            "package libpython3.4-minimal is not whole (apt-get install libpython3-stdlib --reinstall): ");
    assert_non_null(strstr(err, "m10.py"));
    test_write_text(gone, "def f10():\n    return 10\n");
    free(gone);
}

static void needs_to_know_where(void **state) {
    (void)state;
    const char *arguments[] = {getenv("KVDATA"), "stdlib", NULL};
    assert_int_equal(test_run(arguments, -1, out, err, sizeof out), 2);
    assert_non_null(strstr(err, "--out DIR is needed"));
}

static void full_disk_leaves_nothing(void **state) {
    (void)state;
    const char *arguments[] = {
        getenv("KVDATA"), "stdlib", "-r", root, "-o", test_path(test_dir, "full"), NULL};
    assert_int_equal(test_run(arguments, 1100, out, err, sizeof out),
                     1); // LLVM's OpenMP writes 1024 bytes itself
    assert_int_equal(test_dir_count(test_path(test_dir, "full")), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_both_packages),
        cmocka_unit_test(paths_alone_decide),
        cmocka_unit_test(this_debian),
        cmocka_unit_test(same_library_same_bytes),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(needs_to_know_where),
        cmocka_unit_test(full_disk_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
