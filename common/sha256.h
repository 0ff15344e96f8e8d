#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace krait {

// Incremental SHA-256 (FIPS 180-4) over OpenSSL's implementation. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(std::string_view bytes);
  // Length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
  void UpdateField(std::string_view bytes);
  void UpdateInt(int64_t value);
  // Lower-case hex; the object is spent.
  std::string FinishHex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace krait
