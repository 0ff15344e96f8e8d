// The header of a safetensors file: whatever it says, accepted tensors lie inside the file.

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/memory_file.h"
#include "worker/weights/safetensors_file.h"

namespace krait {
namespace {

std::string WithLength(std::string_view header, size_t num_data_bytes) {
  const uint64_t size = header.size();
  std::string file(reinterpret_cast<const char*>(&size), sizeof(size));
  file.append(header);
  file.append(num_data_bytes, 'x');
  return file;
}

}  // namespace

void FuzzOne(std::string_view input) {
  const MemoryFile memory(input);
  const auto file = InputFile::Open(memory.path());
  CHECK_OK(file.status());
  const auto tensors = ReadSafetensorsHeader(*file);
  if (!tensors.ok()) return;
  for (const SafetensorsTensor& tensor : *tensors) {
    CHECK(tensor.type != nullptr);
    CHECK_LE(tensor.offset, input.size());
    CHECK_LE(tensor.num_bytes, input.size() - tensor.offset);
  }
}

std::vector<std::string> FuzzSeeds() {
  return {
      WithLength("{}", 0),
      WithLength(R"({"__metadata__":{"format":"pt"},)"
                 R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                 R"("scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                 R"("empty":{"dtype":"I64","shape":[0,7],"data_offsets":[16,16]}}  )",
                 16),
      WithLength(R"({"a":{"dtype":"F16","shape":[1,1,1,1,1,1,1,1],"data_offsets":[0,2]}})", 2),
      WithLength(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                 0),
      WithLength(R"({"a\u00e9":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", 3),
  };
}

}  // namespace krait
