#pragma once

// UTF-8 as the Unicode Standard defines it (no surrogates, no overlong forms, at most U+10FFFF).

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace krait {

// The first byte of the first ill-formed sequence; nothing if `text` is well-formed.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

// Bytes of the first character of `text`, which is not empty and well-formed.
size_t CharacterLength(std::string_view text);

// Turns a byte stream that is cut anywhere into well-formed text. Each maximal ill-formed part
// becomes one U+FFFD (Unicode 3.9, "substitution of maximal subparts"), or with `every_byte` as
// many as it has bytes. Not thread-safe.
class Utf8Sanitizer {
 public:
  explicit Utf8Sanitizer(bool every_byte = false) : every_byte_(every_byte) {}

  // Appends what is complete; a sequence that may still become complete is held back.
  void Push(std::string_view bytes, std::string& text);
  // The stream ends: what is held back becomes U+FFFD.
  void Finish(std::string& text);

 private:
  void Replace(size_t length, std::string& text) const;

  bool every_byte_;
  std::string held_;  // a proper prefix of one well-formed sequence
};

}  // namespace krait
