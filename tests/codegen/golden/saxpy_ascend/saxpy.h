/* saxpy for ascend910b, compiled by tilus. Arrays are device pointers; strides count elements;
   f16 and bf16 numbers are passed as their bits. Every function gives an aclError, and needs a device that has been set
   (aclInit, aclrtSetDevice). saxpy_launch
   gives ACL_ERROR_INVALID_PARAM, and launches nothing, for arrays that are not what the kernel was compiled for (see
   the checks at its beginning). What it cannot see is up to the caller: that the arrays lie where they say, and that no
   array which the kernel writes overlaps another one. */
#ifndef SAXPY_H
#define SAXPY_H
#include <acl/acl.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
void saxpy_start(uint32_t blocks, void *stream, float a, uint8_t *x, int64_t x_shape0, uint8_t *y, int64_t y_shape0,
        int64_t grid0);
#ifdef __cplusplus
}
#endif

static inline int64_t saxpy_floordiv(int64_t a, int64_t b) {
  if (b == 0) return 0;
  int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}

static inline bool saxpy_is_contiguous(const int64_t *shape, const int64_t *strides, int rank) {
  int64_t step = 1;
  for (int d = 0; d < rank; ++d) if (shape[d] == 0) return true;
  for (int d = rank - 1; d >= 0; --d) {
    if (shape[d] > 1 && strides[d] != step) return false;
    step *= shape[d];
  }
  return true;
}

static inline bool saxpy_is_small(const int64_t *shape, const int64_t *strides, int rank, int64_t bits) {
  int64_t span = 1;
  for (int d = 0; d < rank; ++d) if (shape[d] == 0) return true;
  for (int d = 0; d < rank; ++d) {
    int64_t stride = strides[d] < 0 ? -strides[d] : strides[d];
    if (shape[d] >= INT64_C(1073741824) || (shape[d] > 1 && stride > INT64_C(2147483648) / (shape[d] - 1))) return false;
    span += shape[d] > 1 ? (shape[d] - 1) * stride : 0;
    if (span >= INT64_C(2147483648)) return false;
  }
  return bits < 8 || (span * bits + 7) / 8 < INT64_C(2147483648);
}

/* Core counts of the current device, of which a launch takes no more blocks. */
static inline aclError saxpy_cores(int64_t *cube_cores, int64_t *vector_cores) {
  int32_t device = 0;
  aclError status = aclrtGetDevice(&device);
  if (status == ACL_SUCCESS)
    status = aclrtGetDeviceInfo((uint32_t)device, ACL_DEV_ATTR_CUBE_CORE_NUM, cube_cores);
  if (status == ACL_SUCCESS)
    status = aclrtGetDeviceInfo((uint32_t)device, ACL_DEV_ATTR_VECTOR_CORE_NUM, vector_cores);
  return status;
}

typedef struct { void *data; int64_t shape[1]; int64_t strides[1]; } saxpy_x;
typedef struct { void *data; int64_t shape[1]; int64_t strides[1]; } saxpy_y;

/* Puts a launch into the stream. */
static inline aclError saxpy_launch(float a, saxpy_x x, saxpy_y y, aclrtStream stream) {
  if (x.shape[0] < 0 || x.shape[0] % 16 != 0) return ACL_ERROR_INVALID_PARAM; /* x.shape[0] is a multiple of 16 */
  if (!saxpy_is_small(x.shape, x.strides, 1, 32)) return ACL_ERROR_INVALID_PARAM; /* x takes less than 2^31 bytes */
  if (!saxpy_is_contiguous(x.shape, x.strides, 1)) return ACL_ERROR_INVALID_PARAM; /* x is contiguous */
  if ((uint64_t)x.data % 16 != 0) return ACL_ERROR_INVALID_PARAM; /* x.data is a multiple of 16 bytes */
  if (y.shape[0] < 0 || y.shape[0] % 16 != 0) return ACL_ERROR_INVALID_PARAM; /* y.shape[0] is a multiple of 16 */
  if (!saxpy_is_small(y.shape, y.strides, 1, 32)) return ACL_ERROR_INVALID_PARAM; /* y takes less than 2^31 bytes */
  if (!saxpy_is_contiguous(y.shape, y.strides, 1)) return ACL_ERROR_INVALID_PARAM; /* y is contiguous */
  if ((uint64_t)y.data % 16 != 0) return ACL_ERROR_INVALID_PARAM; /* y.data is a multiple of 16 bytes */
  if (y.shape[0] != x.shape[0]) return ACL_ERROR_INVALID_PARAM; /* y.shape[0] and x.shape[0] are both N */
  int64_t cube_cores = 0, vector_cores = 0;
  aclError status = saxpy_cores(&cube_cores, &vector_cores);
  if (status != ACL_SUCCESS) return status;
  const int64_t v3 = 1;
  const int64_t v4 = 1024;
  const int64_t v5 = x.shape[0];
  const int64_t v6 = saxpy_floordiv(v5, v4);
  const int64_t v7 = v6 + v3;
  const int64_t v8 = 0;
  const int64_t v9 = 1024;
  const int64_t v10 = v5 - saxpy_floordiv(v5, v9) * v9;
  const bool v11 = v10 == v8;
  const int64_t v12 = v11 ? v6 : v7;
  {
    const int64_t grid[1] = {v12};
    const int64_t blocks = grid[0] <= 0 ? 0 : grid[0] < vector_cores ? grid[0] : vector_cores;
    if (blocks > 0 && status == ACL_SUCCESS)
      saxpy_start((uint32_t)blocks, stream, a, (uint8_t *)x.data, x.shape[0], (uint8_t *)y.data, y.shape[0], grid[0]);
  }
  return status;
}

#endif
