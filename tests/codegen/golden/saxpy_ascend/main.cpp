// Launches saxpy once.
// With the name of a folder it takes arguments from FOLDER/NAME.npy, and compares what the kernel has written with
// FOLDER/NAME.expected.npy; without these, arrays have made-up numbers and the extents below.
#include "arrays.h"
#include "saxpy.h"

int main(int count, char **words) {
  const std::string folder = count > 1 ? words[1] : "";
  CHECK(aclInit(nullptr));
  CHECK(aclrtSetDevice(0));
  aclrtStream stream = nullptr;
  CHECK(aclrtCreateStream(&stream));

  const int64_t extentN = 65536;
  const float a = GivenNumber<float>(folder, "a", Kind::F32);
  Array x = Given(folder, "x", Kind::F32, {extentN});
  Array y = Given(folder, "y", Kind::F32, {extentN});
  saxpy_x xArgument = {x.device, {}, {}};
  Describe(x, xArgument.shape, xArgument.strides);
  saxpy_y yArgument = {y.device, {}, {}};
  Describe(y, yArgument.shape, yArgument.strides);

  CHECK(saxpy_launch(a, xArgument, yArgument, stream));
  CHECK(aclrtSynchronizeStream(stream));
  bool wrong = false;
  wrong |= Differs(y, folder, "y");

  Release(x);
  Release(y);
  CHECK(aclrtDestroyStream(stream));
  CHECK(aclrtResetDevice(0));
  CHECK(aclFinalize());
  return wrong ? 1 : 0;
}
