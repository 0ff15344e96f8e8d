#include "common/failpoint.h"

#ifdef KRAIT_INVARIANTS

#include <cstdlib>
#include <set>
#include <string>

#include "absl/strings/str_split.h"

namespace krait {

bool FailpointEnabled(std::string_view failpoint) {
  static const auto& enabled = *[] {
    const char* list = std::getenv("KRAIT_FAILPOINTS");
    const std::vector<std::string> names =
        absl::StrSplit(list == nullptr ? "" : list, ',', absl::SkipEmpty());
    return new std::set<std::string, std::less<>>(names.begin(), names.end());
  }();
  return !enabled.empty() && enabled.find(failpoint) != enabled.end();
}

}  // namespace krait

#endif
