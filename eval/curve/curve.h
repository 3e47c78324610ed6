// kveval curve: predictors of every prefix of a base, without training, and what each is worth.
#pragma once

// argv[0] is "kveval curve". Returns the exit status.
int kv_curve_main(int argc, char **argv);
