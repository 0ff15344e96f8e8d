#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/token.h"

namespace krait {

// The distribution a row is drawn from, after all its processors and filters, in the fixed point of
// Backend::ExpMass: as much of it as one rank knows. Never changed once it is made.
struct TokenMasses {
  std::vector<TokenId> ids;          // rising; others have no mass, or are another rank's
  std::vector<uint64_t> cumulative;  // [ids.size()], of the masses up to each
  uint64_t total = 0;                // of all ranks; the probability of a token is mass / total

  uint64_t mass(size_t i) const { return cumulative[i] - (i == 0 ? 0 : cumulative[i - 1]); }
  double prob(size_t i) const { return static_cast<double>(mass(i)) / static_cast<double>(total); }
  uint64_t own() const { return cumulative.empty() ? 0 : cumulative.back(); }
  uint64_t MassOf(TokenId id) const;

  void Add(TokenId id, uint64_t mass) {
    ids.push_back(id);
    cumulative.push_back(own() + mass);
  }
};
using SharedMasses = std::shared_ptr<const TokenMasses>;

}  // namespace krait
