#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace krait {

// Several messages in one input: each has its length in two bytes, low one first, before it. What
// is left over at the end is the last message.
inline std::vector<std::string_view> SplitFrames(std::string_view input) {
  std::vector<std::string_view> frames;
  while (input.size() >= 2) {
    const size_t length = static_cast<unsigned char>(input[0]) |
                          static_cast<size_t>(static_cast<unsigned char>(input[1])) << 8;
    input.remove_prefix(2);
    frames.push_back(input.substr(0, length));
    input.remove_prefix(frames.back().size());
  }
  return frames;
}

inline void AppendFrame(std::string_view message, std::string& input) {
  input.push_back(static_cast<char>(message.size()));
  input.push_back(static_cast<char>(message.size() >> 8));
  input.append(message);
}

}  // namespace krait
