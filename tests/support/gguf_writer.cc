#include "tests/support/gguf_writer.h"

#include <fstream>

namespace krait::testing {
namespace {

template <typename T>
std::string Packed(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string PackedString(std::string_view text) {
  return Packed<uint64_t>(text.size()) + std::string(text);
}

}  // namespace

void GgufWriter::AddRaw(std::string_view key, uint32_t value_type, std::string_view payload) {
  keys_ += PackedString(key) + Packed(value_type) + std::string(payload);
  ++num_keys_;
}

void GgufWriter::AddUint32(std::string_view key, uint32_t value) { AddRaw(key, 4, Packed(value)); }
void GgufWriter::AddFloat32(std::string_view key, float value) { AddRaw(key, 6, Packed(value)); }
void GgufWriter::AddBool(std::string_view key, bool value) {
  AddRaw(key, 7, Packed<uint8_t>(value ? 1 : 0));
}
void GgufWriter::AddString(std::string_view key, std::string_view value) {
  AddRaw(key, 8, PackedString(value));
}

void GgufWriter::AddStrings(std::string_view key, const std::vector<std::string>& values) {
  std::string payload = Packed<uint32_t>(8) + Packed<uint64_t>(values.size());
  for (const std::string& value : values) payload += PackedString(value);
  AddRaw(key, 9, payload);
}

void GgufWriter::AddInt32s(std::string_view key, const std::vector<int32_t>& values) {
  std::string payload = Packed<uint32_t>(5) + Packed<uint64_t>(values.size());
  for (int32_t value : values) payload += Packed(value);
  AddRaw(key, 9, payload);
}

void GgufWriter::AddFloat32s(std::string_view key, const std::vector<float>& values) {
  std::string payload = Packed<uint32_t>(6) + Packed<uint64_t>(values.size());
  for (float value : values) payload += Packed(value);
  AddRaw(key, 9, payload);
}

void GgufWriter::AddTensor(std::string_view name, uint32_t type, std::vector<uint64_t> shape,
                           std::string bytes) {
  AddTensorAt(name, type, std::move(shape), data_.size());
  data_ += bytes;
  data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
}

void GgufWriter::AddTensorAt(std::string_view name, uint32_t type, std::vector<uint64_t> shape,
                             uint64_t offset) {
  table_ += PackedString(name) + Packed(static_cast<uint32_t>(shape.size()));
  for (uint64_t dim : shape) table_ += Packed(dim);
  table_ += Packed(type) + Packed(offset);
  ++num_tensors_;
}

std::string GgufWriter::Bytes() const {
  std::string bytes = "GGUF" + Packed(version) + Packed(num_tensors_) + Packed(num_keys_);
  bytes += keys_ + table_;
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
  return bytes + data_;
}

void GgufWriter::Write(const std::string& path) const {
  std::ofstream(path, std::ios::binary) << Bytes();
}

}  // namespace krait::testing
