// How bytes arrive in GM: plainly, or combined with what is there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "twin/copy.h"

namespace twin {

// Move bytes; with an atomic mode combine elements of `type` with those at the destination.
void transfer(uint8_t* to, const uint8_t* from, size_t bytes, Type type, int atomic);

}  // namespace twin
