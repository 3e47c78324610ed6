// Where shots are drawn.
#pragma once

#include "eval/trivia_task.h"
