#include "worker/weights/gguf_tensors.h"

#include <cstring>

#include "worker/weights/f16.h"

namespace krait {
namespace {

float LoadF16(const uint8_t* bytes) {
  F16 bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  return FromF16(bits);
}

// The 4-bit types keep elements 0..15 of a block in the low halves of 16 bytes, 16..31 in the high.
int Nibble(const uint8_t* quants, int i) { return i < 16 ? quants[i] & 15 : quants[i - 16] >> 4; }

// The fifth bits of a block's 32 elements, in 4 bytes.
int FifthBit(const uint8_t* high, int i) { return (high[i / 8] >> (i % 8)) & 1; }

struct ScaleAndMin {
  int scale;
  int min;
};

// Q4_K and Q5_K pack eight 6-bit scales and minima into 12 bytes: the first four of each whole in
// bytes 0..7, of the last four the low halves in bytes 8..11 and the high bits above the first.
ScaleAndMin UnpackScale(const uint8_t* packed, int i) {
  if (i < 4) return {packed[i] & 63, packed[i + 4] & 63};
  const int j = i - 4;
  return {(packed[8 + j] & 15) | ((packed[j] >> 2) & 48),
          (packed[8 + j] >> 4) | ((packed[4 + j] >> 2) & 48)};
}

}  // namespace

void DequantizeQ4_0(const uint8_t* blocks, int64_t num_blocks, float* out) {
  for (int64_t b = 0; b < num_blocks; ++b, blocks += 18) {
    const float scale = LoadF16(blocks);
    for (int i = 0; i < 32; ++i) {
      *out++ = scale * static_cast<float>(Nibble(blocks + 2, i) - 8);
    }
  }
}

void DequantizeQ4_1(const uint8_t* blocks, int64_t num_blocks, float* out) {
  for (int64_t b = 0; b < num_blocks; ++b, blocks += 20) {
    const float scale = LoadF16(blocks);
    const float min = LoadF16(blocks + 2);
    for (int i = 0; i < 32; ++i) {
      *out++ = scale * static_cast<float>(Nibble(blocks + 4, i)) + min;
    }
  }
}

void DequantizeQ5_0(const uint8_t* blocks, int64_t num_blocks, float* out) {
  for (int64_t b = 0; b < num_blocks; ++b, blocks += 22) {
    const float scale = LoadF16(blocks);
    for (int i = 0; i < 32; ++i) {
      const int quant = Nibble(blocks + 6, i) | (FifthBit(blocks + 2, i) << 4);
      *out++ = scale * static_cast<float>(quant - 16);
    }
  }
}

void DequantizeQ5_1(const uint8_t* blocks, int64_t num_blocks, float* out) {
  for (int64_t b = 0; b < num_blocks; ++b, blocks += 24) {
    const float scale = LoadF16(blocks);
    const float min = LoadF16(blocks + 2);
    for (int i = 0; i < 32; ++i) {
      const int quant = Nibble(blocks + 8, i) | (FifthBit(blocks + 4, i) << 4);
      *out++ = scale * static_cast<float>(quant) + min;
    }
  }
}

void DequantizeQ8_0(const uint8_t* blocks, int64_t num_blocks, float* out) {
  for (int64_t b = 0; b < num_blocks; ++b, blocks += 34) {
    const float scale = LoadF16(blocks);
    for (int i = 0; i < 32; ++i) {
      *out++ = static_cast<float>(static_cast<int8_t>(blocks[2 + i])) * scale;
    }
  }
}

// scale and min f16, 12 bytes of packed scales, 128 bytes of quants: each 32 bytes hold 64
// elements, the first 32 in the low halves.
void DequantizeQ4_K(const uint8_t* blocks, int64_t num_blocks, float* out) {
  for (int64_t b = 0; b < num_blocks; ++b, blocks += 144) {
    const float scale = LoadF16(blocks);
    const float min = LoadF16(blocks + 2);
    for (int part = 0; part < 8; ++part) {
      const ScaleAndMin packed = UnpackScale(blocks + 4, part);
      const float part_scale = scale * static_cast<float>(packed.scale);
      const float part_min = min * static_cast<float>(packed.min);
      const uint8_t* quants = blocks + 16 + part / 2 * 32;
      for (int i = 0; i < 32; ++i) {
        *out++ = part_scale * static_cast<float>((quants[i] >> (part % 2 * 4)) & 15) - part_min;
      }
    }
  }
}

// As Q4_K, with 32 bytes of fifth bits before the quants: bit p of byte i belongs to element i of
// part p.
void DequantizeQ5_K(const uint8_t* blocks, int64_t num_blocks, float* out) {
  for (int64_t b = 0; b < num_blocks; ++b, blocks += 176) {
    const float scale = LoadF16(blocks);
    const float min = LoadF16(blocks + 2);
    const uint8_t* high = blocks + 16;
    for (int part = 0; part < 8; ++part) {
      const ScaleAndMin packed = UnpackScale(blocks + 4, part);
      const float part_scale = scale * static_cast<float>(packed.scale);
      const float part_min = min * static_cast<float>(packed.min);
      const uint8_t* quants = blocks + 48 + part / 2 * 32;
      for (int i = 0; i < 32; ++i) {
        const int low = (quants[i] >> (part % 2 * 4)) & 15;
        const int quant = low | (((high[i] >> part) & 1) << 4);
        *out++ = part_scale * static_cast<float>(quant) - part_min;
      }
    }
  }
}

// 128 bytes of low halves, 64 bytes of upper bit pairs, 16 signed scales, scale f16. Each half of
// 128 elements has its own 64 and 32 bytes.
void DequantizeQ6_K(const uint8_t* blocks, int64_t num_blocks, float* out) {
  for (int64_t b = 0; b < num_blocks; ++b, blocks += 210) {
    const float scale = LoadF16(blocks + 208);
    for (int e = 0; e < 256; ++e) {
      const int half = e / 128;
      const int in_half = e % 128;
      const int low = (blocks[half * 64 + in_half % 64] >> (in_half / 64 * 4)) & 15;
      const int high = (blocks[128 + half * 32 + in_half % 32] >> (in_half / 32 * 2)) & 3;
      const auto part_scale = static_cast<int8_t>(blocks[192 + e / 16]);
      *out++ =
          (scale * static_cast<float>(part_scale)) * static_cast<float>((low | high << 4) - 32);
    }
  }
}

}  // namespace krait
