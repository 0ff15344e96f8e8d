#include "worker/sampling/candidate_cut.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace krait {
namespace {

// top_p of `total`, at least 1 so that the likeliest token always stays.
uint64_t NucleusMass(uint64_t total, float top_p) {
  const auto mass = (static_cast<unsigned __int128>(total) * TopPShare(top_p)) >> 32;
  return std::max<uint64_t>(1, static_cast<uint64_t>(mass));
}

}  // namespace

float MinZ(float min_p) {
  if (min_p <= 0) return -std::numeric_limits<float>::infinity();
  return static_cast<float>(std::log(double{min_p}));
}

uint64_t TopPShare(float top_p) {
  return static_cast<uint64_t>(std::llround(double{top_p} * 4294967296.0));  // 2^32
}

std::vector<Candidate> MergeCandidates(absl::Span<const Candidate> candidates) {
  std::vector<Candidate> merged(candidates.begin(), candidates.end());
  std::erase_if(merged, [](const Candidate& c) { return c.id < 0; });
  std::sort(merged.begin(), merged.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
  return merged;
}

std::optional<size_t> CutCandidates(const CutParams& params, absl::Span<const Candidate> top,
                                    bool complete, MassFunction masses) {
  // min_p and top_k both keep a prefix of the falling order.
  size_t kept = std::find_if(top.begin(), top.end(),
                             [&](const Candidate& c) {
                               return (c.logit - params.max) / params.temperature < params.min_z;
                             }) -
                top.begin();
  bool known = complete || kept < top.size();
  if (params.top_k > 0 && kept >= static_cast<size_t>(params.top_k)) {
    kept = params.top_k;
    known = true;
  }
  if (params.top_p >= 1) return known ? std::optional(kept) : std::nullopt;

  const bool whole_row = params.top_k <= 0 && std::isinf(params.min_z);
  if (!known && !whole_row) return std::nullopt;  // what top_p is a share of is not yet known
  const std::vector<uint64_t> mass = masses(top.first(kept));
  const uint64_t total =
      whole_row ? params.total_mass : std::accumulate(mass.begin(), mass.end(), uint64_t{0});
  const uint64_t nucleus = NucleusMass(total, params.top_p);
  uint64_t sum = 0;
  for (size_t i = 0; i < kept; ++i) {
    sum += mass[i];
    if (sum >= nucleus) return i + 1;
  }
  return known ? std::optional(kept) : std::nullopt;
}

}  // namespace krait
