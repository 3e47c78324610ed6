// Warnings that were heard: see tests/meson.build, "What is warned of is looked at".
#pragma once

extern int test_n_warnings;    // since the test set it to 0
extern char test_warned[2048]; // the last one
