#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "common/token.h"

namespace krait {

// Finds added tokens in text: the leftmost, of those that begin there the longest. A trie; at most
// kMaxTokenBytes steps a byte of text.
class AddedTokenMatcher {
 public:
  static constexpr size_t kMaxTokenBytes = 256;

  // INVALID_ARGUMENT names the id if `spelling` is empty or too long.
  absl::Status Add(std::string_view spelling, TokenId id);

  struct Match {
    size_t begin;   // the text's size if there is none
    size_t length;  // 0 if there is none
    TokenId id;
  };
  Match FindFirst(std::string_view text) const;

 private:
  // Node 0 is the root. Children by (node << 8 | byte).
  absl::flat_hash_map<uint64_t, uint32_t> children_;
  std::vector<TokenId> ids_ = {-1};  // by node: the token that ends there, or -1
  bool leads_[256] = {};             // the first bytes: most positions need no more than this
};

}  // namespace krait
