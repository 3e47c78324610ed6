// kveval report: tables, files and pictures from results.h5 of earlier evaluations, without running anything.
#pragma once

// argv[0] is "kveval report". Returns the exit status.
int kv_report_main(int argc, char **argv);
