#include "coordinator/tokenizer/added_token_matcher.h"

#include "absl/strings/str_cat.h"

namespace krait {
namespace {

uint64_t Edge(uint32_t node, char byte) { return uint64_t{node} << 8 | static_cast<uint8_t>(byte); }

}  // namespace

absl::Status AddedTokenMatcher::Add(std::string_view spelling, TokenId id) {
  if (spelling.empty() || spelling.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat("added token ", id, ": ", spelling.size(),
                                                   " bytes, must be 1..", kMaxTokenBytes));
  }
  leads_[static_cast<uint8_t>(spelling[0])] = true;
  uint32_t node = 0;
  for (char byte : spelling) {
    const auto [it, is_new] =
        children_.try_emplace(Edge(node, byte), static_cast<uint32_t>(ids_.size()));
    if (is_new) ids_.push_back(-1);
    node = it->second;
  }
  ids_[node] = id;
  return absl::OkStatus();
}

AddedTokenMatcher::Match AddedTokenMatcher::FindFirst(std::string_view text) const {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    if (!leads_[static_cast<uint8_t>(text[begin])]) continue;
    Match match = {begin, 0, -1};
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto child = children_.find(Edge(node, text[at]));
      if (child == children_.end()) break;
      node = child->second;
      if (ids_[node] >= 0) match = {begin, at + 1 - begin, ids_[node]};
    }
    if (match.length > 0) return match;
  }
  return {text.size(), 0, -1};
}

}  // namespace krait
