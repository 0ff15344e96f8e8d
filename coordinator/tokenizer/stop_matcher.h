#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace krait {

// Looks for stop strings in a byte stream, byte by byte: what it finds does not depend on how the
// stream is cut into pushes. The stop string that is complete first wins; of several that end at
// the same byte, the longest. Not thread-safe.
class StopMatcher {
 public:
  // No string may be empty.
  explicit StopMatcher(std::vector<std::string> stops);

  struct Match {
    size_t stop_index;  // in the list given
    size_t length;
  };
  // Takes the next byte; the stop string that it completes, if any.
  std::optional<Match> Push(char byte);

  // How many of the last bytes may still become (the start of) a stop string.
  size_t num_pending() const;

 private:
  // One automaton a string (Knuth, Morris, Pratt): a few short strings need no more.
  struct Pattern {
    std::string text;
    std::vector<size_t> fallback;  // [i]: longest proper border of text[0..i)
    size_t matched = 0;
  };
  std::vector<Pattern> patterns_;
};

}  // namespace krait
