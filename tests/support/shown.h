// What tables look like on a terminal.
#pragma once

#include "data/table/format.h"

// As text, which the caller frees; the tables are freed.
char *test_shown(kv_tables *tables);
