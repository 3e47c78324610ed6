// Hashes that files keep: their values may never change.
#include "data/file/hash.h"
#include "tests/support/support.h"

#include <string.h>

// Values of the reference implementation of XXH64.
static void test_hash(void **state) {
    (void)state;
    const char *long_text = "Call me Ishmael. Some years ago--never mind how long precisely-";
    assert_true(kv_hash64(0, NULL, 0) == 0xEF46DB3751D8E999u);
    assert_true(kv_hash64(0, "a", 1) == 0xD24EC4F1A98C6E5Bu);
    assert_true(kv_hash64(0, "abc", 3) == 0x44BC2CF5AD770999u);
    assert_true(kv_hash64(0, "asdf", 4) == 0x415872F599CEA71Eu);
    assert_true(kv_hash64(0, "xxhash", 6) == 0x32DD38952C4BC720u);
    assert_true(kv_hash64(20141025, "xxhash", 6) == 0xB559B98D844E0635u);
    assert_true(kv_hash64(0, long_text, strlen(long_text)) == 0x02A2E85470D6FD96u);
    char text[17];
    kv_hash_text(0xABCu, text);
    assert_string_equal(text, "0000000000000abc");
}

// All lengths up to a thousand, at every alignment; each hash is the next one's seed. The value is that of the
// implementation with which the first shards were written.
static void test_every_length(void **state) {
    (void)state;
    unsigned char bytes[1000];
    for (int i = 0; i < 1000; i++) bytes[i] = (unsigned char)(i * i * 7 + i / 3);
    uint64_t hash = 20141025;
    for (int n = 0; n <= 1000; n++) hash = kv_hash64(hash, bytes + n % 13, (size_t)(n > 13 ? n - 13 : 0));
    assert_true(hash == 0x4E94F41A79766041u);
    assert_true(kv_hash64(7, NULL, 0) == kv_hash64(7, bytes, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hash), cmocka_unit_test(test_every_length)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
