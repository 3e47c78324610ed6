// kveval sources: how many layers of an auxiliary model it takes to explain a base's keys and values.
#pragma once

// argv[0] is "kveval sources". Returns the exit status.
int kv_sources_main(int argc, char **argv);
