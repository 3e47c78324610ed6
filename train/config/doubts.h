// What a configuration says that cannot come true although nothing about it is an error: a warning each, at the place
// where the key was set.
#pragma once

#include "train/config/config.h"

// Those that show in the configuration alone.
void kv_train_config_doubts(const kv_config *source, const kv_train_config *config);
