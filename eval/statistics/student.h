// Whether two systems differ over seeds: models that were trained anew, each pair of them with one seed. What is drawn
// at random here is the training, not the questions (eval/statistics/stats.h asks about those).
#pragma once

#include "core/spread.h"

// P(|T| >= |t|) of Student's distribution with `freedom` >= 1 degrees of freedom, by its finite series.
//                                                          [Abramowitz & Stegun 1964, equations 26.7.3 and 26.7.4]
// 1 of t = 0, 0 of an infinite one, NAN of NAN.
double kv_student_two_sided(double t, int64_t freedom);

typedef struct kv_student {
    kv_spread difference; // of system − other, over the pairs of which both are finite
    double t;             // mean / (sd / √n)
    // Two-sided, with n − 1 degrees of freedom; 1 where nothing differs. t and p are NAN of fewer than two pairs, and where all
    // differences are the same but not 0 (within 16 roundings of the figures): figures as coarse as shares of a few items often
    // agree by chance, and then there is no spread to judge by.
    double p;
} kv_student;

// The paired t-test of system[n] and other[n], figures of the same seeds.                             [Student 1908]
kv_student kv_student_test(const double *system, const double *other, int64_t n);
