// Cycles of what the twin executes, for the estimate. Entries marked "fitted" make published totals come out.
#pragma once

#include <cstdint>

#include "chip.h"
#include "twin/types.h"

namespace twin::costs {

// The scalar unit issues one instruction to a pipe: fitted.
constexpr double issue = 4;
// A scalar access to a tensor: fitted.
constexpr double scalar_access = 8;
// From a cross-core set until it is seen elsewhere: fitted.
constexpr double cross_core = 200;
// From a request to GM until the first bytes are there, and until a write is seen: fitted.
constexpr double gm_latency = 400;
constexpr double gm_write_latency = 200;
// A copy begins; those of 16 KB have nine tenths of the full rate: fitted.
constexpr double copy_start = 24;
// A block of a copy costs at least as much as so many bytes, a line of the L2: fitted.
constexpr uint64_t burst_floor = 128;
// GM addresses that are no multiples of 512 B cost up to 30 %.
constexpr double unaligned_cost = 0.3;
// A vector call begins, and its last result is there: fitted.
constexpr double vector_start = 4;
constexpr double vector_latency = 16;

// Loads into L0, products and results: fitted, so that 128 x 256 x 512 in half takes 4156 cycles.
constexpr double load_start = 8;
constexpr double load_latency = 32;
constexpr double product_start = 12;
constexpr double product_latency = 24;
constexpr double fixpipe_start = 30;
constexpr double fixpipe_latency = 200;

// Cycles of a copy between GM and a memory of the core, of `count` blocks of `length` bytes.
double gm_copy(const ChipDescription& chip, const Operand& dst, const Operand& src, uint64_t count, uint64_t length);

// Cycles of a result of `elements` numbers that leave as so many bytes.
double fixpipe(const ChipDescription& chip, uint64_t bytes, uint64_t elements);

}  // namespace twin::costs
