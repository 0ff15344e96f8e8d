// Feeds a fuzz target its seeds and damaged copies of them, the same ones every time. Takes about a
// second, needs no fuzzer: what a change breaks grossly shows in the ordinary tests.

#include <cstdio>
#include <random>

#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"

namespace krait {
namespace {

constexpr int kCopiesInAll = 20000;

class Damage {
 public:
  explicit Damage(const std::vector<std::string>& seeds) : seeds_(seeds) {}

  std::string operator()(std::string input) {
    const int edits = 1 + Below(4);
    for (int i = 0; i < edits; ++i) Edit(input);
    return input;
  }

 private:
  // 0 to limit - 1.
  size_t Below(size_t limit) { return random_() % limit; }

  void Edit(std::string& input) {
    const size_t at = Below(input.size() + 1);
    const size_t length = Below(16);
    switch (Below(5)) {
      case 0:
        if (at < input.size()) input[at] = static_cast<char>(random_());
        break;
      case 1:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << Below(8)));
        break;
      case 2:
        input.erase(at, length);
        break;
      case 3:
        input.insert(at, input.substr(Below(input.size() + 1), length));
        break;
      default:
        const std::string& other = seeds_[Below(seeds_.size())];
        input = input.substr(0, at) + other.substr(Below(other.size() + 1));
    }
  }

  const std::vector<std::string>& seeds_;
  std::mt19937 random_{20240823};
};

}  // namespace
}  // namespace krait

int main() {
  krait::SetMinLogSeverity(krait::LogSeverity::kFatal);
  const std::vector<std::string> seeds = krait::FuzzSeeds();
  CHECK(!seeds.empty());
  for (const std::string& seed : seeds) krait::FuzzOne(seed);
  krait::Damage damage(seeds);
  for (int i = 0; i < krait::kCopiesInAll; ++i) krait::FuzzOne(damage(seeds[i % seeds.size()]));
  std::printf("%zu seeds, %d damaged copies\n", seeds.size(), krait::kCopiesInAll);
  return 0;
}
