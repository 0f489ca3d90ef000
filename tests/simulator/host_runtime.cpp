// The part of the CUDA runtime that the host code of CUB calls: launches go to a callback, host and device share memory.
#include <cuda_runtime_api.h>
#include <cstring>
#include <map>

typedef int (*Launch)(const char* entry, const unsigned* grid_block_shared, void** args);

static Launch tell;
static struct { dim3 grid, block; size_t shared; } next;

static std::map<const void*, const char*>& entries() {
  static std::map<const void*, const char*> all;
  return all;
}

static cudaError_t launched(const void* f, dim3 g, dim3 b, void** args, size_t shared) {
  const unsigned shape[7] = {g.x, g.y, g.z, b.x, b.y, b.z, (unsigned)shared};
  return tell(entries()[f], shape, args) ? cudaErrorLaunchFailure : cudaSuccess;
}

extern "C" {

void tell_launches(Launch function) { tell = function; }

// Registration, and launches by <<<>>>
void** __cudaRegisterFatBinary(void*) { static void* handle; return &handle; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* f, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
  entries()[f] = name;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* f) { *kernel = (cudaKernel_t)f; return cudaSuccess; }
unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t shared, cudaStream_t) { next = {g, b, shared}; return 0; }
cudaError_t __cudaPopCallConfiguration(dim3* g, dim3* b, size_t* shared, void*) {
  *g = next.grid;
  *b = next.block;
  *shared = next.shared;
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t f, dim3 g, dim3 b, void** args, size_t shared, cudaStream_t) {
  return launched((const void*)f, g, b, args, shared);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* f, void** args) {
  return launched(f, c->gridDim, c->blockDim, args, c->dynamicSmemBytes);
}

// A device of few multiprocessors, so that each block of a grid has more than one tile
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  switch (what) {
    case cudaDevAttrComputeCapabilityMajor: *value = ARCH / 100; break;
    case cudaDevAttrComputeCapabilityMinor: *value = ARCH / 10 % 10; break;
    case cudaDevAttrMultiProcessorCount: *value = 2; break;
    case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 << 10; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (ARCH < 900 ? 99 : 227) << 10; break;
    case cudaDevAttrReservedSharedMemoryPerBlock: *value = 1 << 10; break;
    default: return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void*) {
  memset(a, 0, sizeof *a);
  a->ptxVersion = a->binaryVersion = ARCH / 10;
  a->maxThreadsPerBlock = 1024;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void*, int, size_t, unsigned) {
  *n = 2;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { *count = 1; return cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }

// Memory
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  memset(to, value, bytes);
  return cudaSuccess;
}
}
