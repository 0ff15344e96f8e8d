#include "worker/sampling/token_masses.h"

#include <algorithm>

namespace krait {

uint64_t TokenMasses::MassOf(TokenId id) const {
  const auto at = std::lower_bound(ids.begin(), ids.end(), id);
  return at != ids.end() && *at == id ? mass(at - ids.begin()) : 0;
}

}  // namespace krait
