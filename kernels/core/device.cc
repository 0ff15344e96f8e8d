#include "kernels/core/device.h"

#include <charconv>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace krait {

absl::StatusOr<Device> ParseDevice(std::string_view text) {
  constexpr int kMaxIndex = 1023;
  const auto wrong = [text] {
    return absl::InvalidArgumentError(absl::StrCat("must be cpu, cuda or cuda:N with N in [0, ",
                                                   kMaxIndex, "], got '", std::string(text), "'"));
  };
  if (text.empty() || text == "cpu") return Device{};
  Device device{.kind = DeviceKind::kCuda};
  if (text == "cuda") return device;
  if (!text.starts_with("cuda:")) return wrong();
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + 5, end, device.index);
  if (error != std::errc() || stop != end || device.index < 0 || device.index > kMaxIndex) {
    return wrong();
  }
  return device;
}

}  // namespace krait
