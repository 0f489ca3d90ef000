"""What the example of a project does with arrays: C++ that reads and writes NumPy's files, and compares."""

ARRAYS = r"""// Arrays of the example: from NumPy's files or made up, on the device and back.
#ifndef ARRAYS_H
#define ARRAYS_H
#include <acl/acl.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#define CHECK(call)                                                              \
  do {                                                                           \
    const aclError failed = (call);                                              \
    if (failed != ACL_SUCCESS) {                                                 \
      std::fprintf(stderr, "%s gives %d\n", #call, static_cast<int>(failed));    \
      std::exit(2);                                                              \
    }                                                                            \
  } while (0)

enum class Kind { F16, BF16, F32, F64, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, BOOL };

struct Array {
  Kind kind;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
  void *device;
};

inline size_t SizeOf(Kind kind) {
  switch (kind) {
    case Kind::INT8: case Kind::UINT8: case Kind::BOOL: return 1;
    case Kind::F16: case Kind::BF16: case Kind::INT16: case Kind::UINT16: return 2;
    case Kind::F32: case Kind::INT32: case Kind::UINT32: return 4;
    default: return 8;
  }
}

template <typename T>
double As(const uint8_t *bytes) {
  T number;
  std::memcpy(&number, bytes, sizeof number);
  return static_cast<double>(number);
}

inline double HalfAsDouble(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double sign = bits >> 15 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

inline double AsDouble(Kind kind, const uint8_t *bytes) {
  switch (kind) {
    case Kind::F16: return HalfAsDouble(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
    case Kind::BF16: {
      const uint8_t wide[4] = {0, 0, bytes[0], bytes[1]};
      return As<float>(wide);
    }
    case Kind::F32: return As<float>(bytes);
    case Kind::F64: return As<double>(bytes);
    case Kind::INT8: return As<int8_t>(bytes);
    case Kind::INT16: return As<int16_t>(bytes);
    case Kind::INT32: return As<int32_t>(bytes);
    case Kind::INT64: return As<int64_t>(bytes);
    case Kind::UINT16: return As<uint16_t>(bytes);
    case Kind::UINT32: return As<uint32_t>(bytes);
    case Kind::UINT64: return As<uint64_t>(bytes);
    default: return As<uint8_t>(bytes);
  }
}

// The n-th made-up number: 0, 1/2, 1 or -1; of integers 0 or 1.
inline void MakeUp(Kind kind, uint64_t n, uint8_t *bytes) {
  static const uint16_t halves[] = {0x0000, 0x3800, 0x3c00, 0xbc00};
  static const float floats[] = {0.0f, 0.5f, 1.0f, -1.0f};
  const uint64_t which = (n * 2654435761u >> 7) % 4;
  const double wide = floats[which];
  std::memset(bytes, 0, SizeOf(kind));
  switch (kind) {
    case Kind::F16: std::memcpy(bytes, &halves[which], 2); break;
    case Kind::BF16: std::memcpy(bytes, reinterpret_cast<const uint8_t *>(&floats[which]) + 2, 2); break;
    case Kind::F32: std::memcpy(bytes, &floats[which], 4); break;
    case Kind::F64: std::memcpy(bytes, &wide, 8); break;
    default: bytes[0] = static_cast<uint8_t>(which % 2);
  }
}

// Reads a file of NumPy's whose elements have the size of the kind's; false where there is none.
inline bool ReadNumPy(const std::string &path, Kind kind, std::vector<int64_t> &shape, std::vector<uint8_t> &bytes) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  std::vector<char> text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto byte = [&](size_t n) { return static_cast<size_t>(static_cast<uint8_t>(text[n])); };
  if (text.size() < 12 || std::memcmp(text.data(), "\x93NUMPY", 6) != 0) {
    std::fprintf(stderr, "%s is no file of NumPy's\n", path.c_str());
    std::exit(2);
  }
  const bool old = text[6] == 1;
  const size_t begin = old ? 10 : 12, length = byte(8) | byte(9) << 8 | (old ? 0 : byte(10) << 16 | byte(11) << 24);
  const std::string head(text.data() + begin, length);
  const size_t type = head.find_first_of("0123456789", head.find("'descr':"));
  const bool by_columns = head.find("'fortran_order': True") != std::string::npos;
  if (by_columns || std::strtoul(&head[type], nullptr, 10) != SizeOf(kind)) {
    std::fprintf(stderr, "%s has to be stored by rows, with %zu bytes an element\n", path.c_str(), SizeOf(kind));
    std::exit(2);
  }
  const size_t open = head.find('(', head.find("'shape':")), close = head.find(')', open);
  shape.clear();
  for (size_t at = open + 1; at < close; at = head.find(',', at) + 1) {
    if (head.find_first_of("0123456789", at) >= close) break;
    shape.push_back(std::strtoll(&head[at], nullptr, 10));
    if (head.find(',', at) >= close) break;
  }
  bytes.assign(text.begin() + static_cast<std::ptrdiff_t>(begin + length), text.end());
  return true;
}

// An array from FOLDER/NAME.npy, or of made-up numbers, in the memory of the device.
inline Array Given(const std::string &folder, const std::string &name, Kind kind, std::vector<int64_t> shape) {
  Array array{kind, shape, {}, nullptr};
  if (folder.empty() || !ReadNumPy(folder + "/" + name + ".npy", kind, array.shape, array.bytes)) {
    size_t count = 1;
    for (const int64_t extent : shape) count *= static_cast<size_t>(extent);
    array.bytes.resize(count * SizeOf(kind));
    for (size_t n = 0; n < count; ++n) MakeUp(kind, n, &array.bytes[n * SizeOf(kind)]);
  }
  const size_t size = array.bytes.empty() ? 32 : array.bytes.size();
  CHECK(aclrtMalloc(&array.device, size, ACL_MEM_MALLOC_HUGE_FIRST));
  if (!array.bytes.empty())
    CHECK(aclrtMemcpy(array.device, size, array.bytes.data(), array.bytes.size(), ACL_MEMCPY_HOST_TO_DEVICE));
  return array;
}

// A number from FOLDER/NAME.npy, or a made-up one.
template <typename T>
T GivenNumber(const std::string &folder, const std::string &name, Kind kind) {
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes(sizeof(T));
  if (folder.empty() || !ReadNumPy(folder + "/" + name + ".npy", kind, shape, bytes)) MakeUp(kind, 2, bytes.data());
  T number;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

// Extents, and strides by rows in elements.
inline void Describe(const Array &array, int64_t *shape, int64_t *strides) {
  int64_t step = 1;
  for (size_t d = array.shape.size(); d-- > 0;) {
    shape[d] = array.shape[d];
    strides[d] = step;
    step *= array.shape[d];
  }
}

// Fetches what the kernel has written; whether it is something else than FOLDER/NAME.expected.npy, where there is that.
inline bool Differs(Array &array, const std::string &folder, const std::string &name) {
  const size_t size = SizeOf(array.kind), count = array.bytes.size() / size;
  if (count > 0)
    CHECK(aclrtMemcpy(array.bytes.data(), array.bytes.size(), array.device, array.bytes.size(),
                      ACL_MEMCPY_DEVICE_TO_HOST));
  std::vector<int64_t> shape;
  std::vector<uint8_t> expected;
  if (folder.empty() || !ReadNumPy(folder + "/" + name + ".expected.npy", array.kind, shape, expected)) {
    std::printf("%s:", name.c_str());
    for (size_t n = 0; n < count && n < 8; ++n) std::printf(" %g", AsDouble(array.kind, &array.bytes[n * size]));
    std::printf("\n");
    return false;
  }
  if (expected.size() != array.bytes.size()) {
    std::printf("%s: %zu bytes are expected, not %zu\n", name.c_str(), expected.size(), array.bytes.size());
    return true;
  }
  double apart = 0, whole = 0;
  for (size_t n = 0; n < count; ++n) {
    const double x = AsDouble(array.kind, &array.bytes[n * size]), y = AsDouble(array.kind, &expected[n * size]);
    if (x == y || (std::isnan(x) && std::isnan(y))) {
      whole += std::isfinite(y) ? y * y : 0;
      continue;
    }
    apart += (x - y) * (x - y);
    whole += y * y;
  }
  const double error = apart == 0 ? 0 : std::sqrt(apart / (whole > 0 ? whole : 1));
  const double allowed = array.kind == Kind::BF16 ? 1e-2 : array.kind == Kind::F16 ? 2e-3
                       : array.kind == Kind::F32 ? 1e-5 : 0;
  std::printf("%s: relative error %.1e%s\n", name.c_str(), error, error <= allowed ? "" : ", WRONG");
  return !(error <= allowed);
}

inline void Release(Array &array) { CHECK(aclrtFree(array.device)); }

#endif
"""

__all__ = ["ARRAYS"]
