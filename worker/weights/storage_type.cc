#include "worker/weights/storage_type.h"

#include <cstring>

#include "kernels/core/bf16.h"
#include "worker/weights/f16.h"
#include "worker/weights/gguf_tensors.h"

namespace krait {
namespace {

void CopyF32(const uint8_t* bytes, int64_t count, float* out) {
  std::memcpy(out, bytes, static_cast<size_t>(count) * sizeof(float));
}

void WidenF16(const uint8_t* bytes, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    F16 bits;
    std::memcpy(&bits, bytes + 2 * i, sizeof(bits));
    out[i] = FromF16(bits);
  }
}

void WidenBf16(const uint8_t* bytes, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    Bf16 bits;
    std::memcpy(&bits, bytes + 2 * i, sizeof(bits));
    out[i] = FromBf16(bits);
  }
}

struct GgufRow {
  uint32_t number;
  StorageType type;
};

// Numbers of ggml_type.
constexpr GgufRow kGgufTypes[] = {
    {0, {"F32", 1, 4, &CopyF32, false}},
    {1, {"F16", 1, 2, &WidenF16, false}},
    {2, {"Q4_0", 32, 18, &DequantizeQ4_0, false}},
    {3, {"Q4_1", 32, 20, &DequantizeQ4_1, false}},
    {6, {"Q5_0", 32, 22, &DequantizeQ5_0, false}},
    {7, {"Q5_1", 32, 24, &DequantizeQ5_1, false}},
    {8, {"Q8_0", 32, 34, &DequantizeQ8_0, false}},
    {9, {"Q8_1", 32, 36, nullptr, false}},
    {10, {"Q2_K", 256, 84, nullptr, false}},
    {11, {"Q3_K", 256, 110, nullptr, false}},
    {12, {"Q4_K", 256, 144, &DequantizeQ4_K, false}},
    {13, {"Q5_K", 256, 176, &DequantizeQ5_K, false}},
    {14, {"Q6_K", 256, 210, &DequantizeQ6_K, false}},
    {15, {"Q8_K", 256, 292, nullptr, false}},
    {24, {"I8", 1, 1, nullptr, true}},
    {25, {"I16", 1, 2, nullptr, true}},
    {26, {"I32", 1, 4, nullptr, true}},
    {27, {"I64", 1, 8, nullptr, true}},
    {28, {"F64", 1, 8, nullptr, false}},
    {30, {"BF16", 1, 2, &WidenBf16, false}},
};

// https://huggingface.co/docs/safetensors; types of less than a byte are left out.
constexpr StorageType kSafetensorsTypes[] = {
    {"F32", 1, 4, &CopyF32, false},    {"F16", 1, 2, &WidenF16, false},
    {"BF16", 1, 2, &WidenBf16, false}, {"F64", 1, 8, nullptr, false},
    {"F8_E4M3", 1, 1, nullptr, false}, {"F8_E5M2", 1, 1, nullptr, false},
    {"BOOL", 1, 1, nullptr, true},     {"U8", 1, 1, nullptr, true},
    {"I8", 1, 1, nullptr, true},       {"U16", 1, 2, nullptr, true},
    {"I16", 1, 2, nullptr, true},      {"U32", 1, 4, nullptr, true},
    {"I32", 1, 4, nullptr, true},      {"U64", 1, 8, nullptr, true},
    {"I64", 1, 8, nullptr, true},
};

}  // namespace

const StorageType* StorageTypeFromGguf(uint32_t ggml_type) {
  for (const GgufRow& row : kGgufTypes) {
    if (row.number == ggml_type) return &row.type;
  }
  return nullptr;
}

const StorageType* StorageTypeFromSafetensors(std::string_view dtype) {
  for (const StorageType& type : kSafetensorsTypes) {
    if (type.name == dtype) return &type;
  }
  return nullptr;
}

}  // namespace krait
