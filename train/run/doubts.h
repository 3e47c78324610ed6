// What a training says that cannot come true, as its text and its models show: a warning each.
#pragma once

#include "train/run/training.h"

// Of an opened training; with those of its configuration (train/config/doubts.h). Each is said once, however many runs of
// a sweep have it.
void kv_training_doubts(const kv_training *training);
