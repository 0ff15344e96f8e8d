#include "coordinator/tokenizer/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "common/logging.h"

namespace krait {
namespace {

// The length of the longest prefix of `text` that ends the bytes seen, after one more byte.
size_t Advance(const std::string& text, const std::vector<size_t>& fallback, size_t matched,
               char byte) {
  while (matched > 0 && (matched == text.size() || text[matched] != byte)) {
    matched = fallback[matched];
  }
  return matched < text.size() && text[matched] == byte ? matched + 1 : 0;
}

std::vector<size_t> Fallbacks(const std::string& text) {
  std::vector<size_t> fallback(text.size() + 1, 0);
  for (size_t i = 1; i < text.size(); ++i) {
    fallback[i + 1] = Advance(text, fallback, fallback[i], text[i]);
  }
  return fallback;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    CHECK(!stop.empty()) << "an empty stop string";
    Pattern pattern;
    pattern.fallback = Fallbacks(stop);
    pattern.text = std::move(stop);
    patterns_.push_back(std::move(pattern));
  }
}

std::optional<StopMatcher::Match> StopMatcher::Push(char byte) {
  std::optional<Match> best;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    Pattern& pattern = patterns_[i];
    pattern.matched = Advance(pattern.text, pattern.fallback, pattern.matched, byte);
    const bool complete = pattern.matched == pattern.text.size();
    if (complete && (!best || pattern.text.size() > best->length)) {
      best = Match{i, pattern.text.size()};
    }
  }
  return best;
}

size_t StopMatcher::num_pending() const {
  size_t pending = 0;
  for (const Pattern& pattern : patterns_) pending = std::max(pending, pattern.matched);
  return pending;
}

}  // namespace krait
