#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace krait {

// Writes one JSON document on one line, in the order of the calls. Not thread-safe.
class JsonWriter {
 public:
  JsonWriter& BeginObject() { return Open('{', '}'); }
  JsonWriter& BeginArray() { return Open('[', ']'); }
  JsonWriter& End();  // of the innermost object or array
  // Before every value of an object.
  JsonWriter& Key(std::string_view name);

  JsonWriter& String(std::string_view value);  // invalid UTF-8 becomes U+FFFD
  JsonWriter& Int(int64_t value);
  JsonWriter& Double(double value);  // not finite: null
  JsonWriter& Bool(bool value);

  // Everything is closed by now.
  const std::string& text() const { return text_; }

 private:
  JsonWriter& Open(char open, char close);
  JsonWriter& Value(std::string_view text);
  void Separate();

  std::string text_;
  std::vector<char> closers_;
  bool needs_comma_ = false;
};

}  // namespace krait
