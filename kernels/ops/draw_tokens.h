#pragma once

#include <cstdint>
#include <limits>

#include "common/fast_math.h"
#include "common/token.h"
#include "kernels/core/tensor.h"

namespace krait {

// DrawChoice::top_p of a row that leaves nothing out.
inline constexpr uint64_t kWholeMass = uint64_t{1} << 32;
// The longest row that may have top_k or top_p.
inline constexpr int64_t kMaxFilteredRow = int64_t{1} << 18;

// How a row's token is drawn. Plain data: an array of them lies on the backend's device.
struct DrawChoice {
  uint64_t seed = 0;
  uint64_t top_p = kWholeMass;                            // in 2^-32
  uint32_t choice = 0;                                    // of the noise
  float temperature = 1;                                  // 0: greedy; else at least 1e-5
  float min_z = -std::numeric_limits<float>::infinity();  // -infinity: no cut
  int32_t top_k = 0;                                      // 0: no cut
  uint32_t drawn = 1;  // 0: the row is left out, its token is kNoToken
  uint32_t unused = 0;

  KRAIT_HOST_DEVICE bool filtered() const { return top_k > 0 || top_p < kWholeMass; }
};

// What a row that is not finite draws, or one that is left out: no id.
inline constexpr TokenId kNoToken = -1;

// Draws a token from each row of a whole vocabulary's logits, with nothing for the host to wait
// for: rows, their choices and what they draw lie on the device. Row r draws the token at position
// t = positions[rows[r]] + 1: the argmax, ties to the lower id, of z + G(seed, t, id, choice) with
// z = (l - max l) / temperature, among the ids that min_z, then top_k, then top_p leave; greedy, of
// the logits, without any of them.
//
// In falling order of logits, ties by rising id: min_z leaves those with z >= min_z, top_k the
// first top_k of them, top_p the fewest of these whose mass (ops/sampling.h) is that share of their
// sum, rounded down, or one. So all of it has the bits of FindRowMax, ExpMass and GumbelArgmax.
// Rows are independent.
struct DrawTokensParams {
  TensorView logits;              // [num_rows, n], f32
  TokenId first_id = 0;           // logits[r][i] belongs to ids ? ids[i] : first_id + i
  const TokenId* ids = nullptr;   // [n], increasing; null: contiguous
  const int32_t* rows = nullptr;  // [num_rows]
  const int32_t* positions = nullptr;
  const DrawChoice* choices = nullptr;  // [num_rows]
  bool any_filtered = true;             // false: no row has top_k or top_p
  TokenId* tokens = nullptr;            // [num_rows], out
};

}  // namespace krait
