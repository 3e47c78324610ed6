// What made the results that a program shows, as lines below its tables.
#include "data/file/made_by.h"
#include "data/table/table.h"

void kv_tables_made_by(kv_tables *tables, char *const *texts, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        char line[KV_MADE_BY_LINE];
        kv_table_title(kv_tables_add(tables, KV_FOR_PEOPLE, "made_by"), "%s",
                       kv_made_by_line(texts[i], line));
    }
}
