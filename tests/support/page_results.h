// Results made by hand that have everything a page shows (eval/html), and names and answers that would be markup if it let them.
#pragma once

#include "tests/support/results.h"

// What stands in names and answers: it ends scripts and attributes, is no UTF-8, and holds a control character and U+2028.
#define PAGE_NASTY "</script><b id=\"owned\">'&amp;\xFF\xC3\x01\xE2\x80\xA8<!--"

enum {
    PAGE_BASE, // all right
    PAGE_OURS, // some right, its predicted caches were looked at
    PAGE_NASTY_SYSTEM,
    PAGE_BROKEN, // not finite at the first task
    PAGE_SYSTEMS
};

// Tasks: questions (6 of them, right or wrong); "text", whose metric is nats, one of them infinite; "needle", a grid of 2 lengths
// and 2 depths; "code", 2 samples of each of 3 programs; "choice". Free with kv_results_free.
enum { PAGE_QUESTIONS, PAGE_TEXT, PAGE_NEEDLE, PAGE_CODE, PAGE_CHOICE, PAGE_TASKS };
kv_results test_page_results(void);
