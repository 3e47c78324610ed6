// Writes over the bytes in place: what comes of it is what a bad disk or a diverged training leaves, a file that is
// sound in every other way.
#include "tests/support/spoil.h"

#include "core/text.h"
#include "tests/support/support.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The first float16 that is as `value` is; only what it is for can be told.
static uint16_t half_of(float value) {
    return isnan(value) ? 0x7E00 : isinf(value) ? (value > 0 ? 0x7C00 : 0xFC00) : 0;
}

static void write_value(FILE *file, const char *dtype, int64_t start, int64_t index, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const bool wide = !strcmp(dtype, "F32");
    const uint16_t narrow = !strcmp(dtype, "BF16") ? (uint16_t)(bits >> 16) : half_of(value);
    assert_int_equal(fseek(file, start + index * (wide ? 4 : 2), SEEK_SET), 0);
    assert_int_equal(wide ? fwrite(&bits, 4, 1, file) : fwrite(&narrow, 2, 1, file), 1);
}

void test_spoil(const char *dir, const char *name, const char *tensor, int64_t index, float value) {
    FILE *file = fopen(test_path(dir, name), "r+");
    uint64_t size;
    if (!file) fail_msg("%s: no %s to spoil", dir, name);
    assert_int_equal(fread(&size, sizeof size, 1, file), 1);
    char *text = test_alloc((int64_t)size + 1, 1);
    assert_int_equal(fread(text, 1, size, file), size);
    json_t *header = json_loads(text, 0, NULL), *entry;
    const char *key;
    bool found = false;
    json_object_foreach(header, key, entry) {
        const json_t *offset = json_array_get(json_object_get(entry, "data_offsets"), 0);
        if (!offset || !kv_ends_with(key, tensor) || found) continue;
        write_value(file, json_string_value(json_object_get(entry, "dtype")),
                    (int64_t)(sizeof size + size) + json_integer_value(offset), index, value);
        found = true;
    }
    if (!found) fail_msg("%s/%s has no tensor ...%s: %s", dir, name, tensor, text);
    assert_int_equal(fclose(file), 0);
    json_decref(header);
    free(text);
}
