#pragma once

// Builds GGUF files for tests, well-formed or not: nothing here checks anything.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace krait::testing {

class GgufWriter {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;

  void AddUint32(std::string_view key, uint32_t value);
  void AddFloat32(std::string_view key, float value);
  void AddBool(std::string_view key, bool value);
  void AddString(std::string_view key, std::string_view value);
  void AddStrings(std::string_view key, const std::vector<std::string>& values);
  void AddInt32s(std::string_view key, const std::vector<int32_t>& values);
  void AddFloat32s(std::string_view key, const std::vector<float>& values);
  // Type number and payload as given.
  void AddRaw(std::string_view key, uint32_t value_type, std::string_view payload);

  // `shape` is fastest dimension first; `bytes` go to the data section, padded to the alignment.
  void AddTensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape,
                 std::string bytes);
  // A table row that claims `offset`; its bytes are not added.
  void AddTensorAt(std::string_view name, uint32_t type, std::vector<uint64_t> shape,
                   uint64_t offset);

  std::string Bytes() const;
  void Write(const std::string& path) const;

 private:
  std::string keys_;
  uint64_t num_keys_ = 0;
  std::string table_;
  uint64_t num_tensors_ = 0;
  std::string data_;
};

}  // namespace krait::testing
