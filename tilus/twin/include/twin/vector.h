// Calls of the vector unit.
#pragma once

#include "twin/vector_arithmetic.h"
#include "twin/vector_cast.h"
#include "twin/vector_compare.h"
#include "twin/vector_fill.h"
#include "twin/vector_math.h"
#include "twin/vector_reduce.h"
#include "twin/vector_sort.h"
