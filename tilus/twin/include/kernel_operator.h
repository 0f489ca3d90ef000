// The calls of Ascend C that the twin executes, under their real names; see twin/issue.h for how one is declared.
#pragma once

#include "twin/types.h"
#include "twin/tensor.h"
#include "twin/issue.h"
#include "twin/flags.h"
#include "twin/copy.h"
#include "twin/cube.h"
#include "twin/queue.h"
#include "twin/vector.h"
