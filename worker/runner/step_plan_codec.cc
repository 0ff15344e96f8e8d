#include "worker/runner/step_plan_codec.h"

#include <bit>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "worker/runner/step_plan_fields.h"

namespace krait {
namespace {

static_assert(std::endian::native == std::endian::little);

class Writer {
 public:
  template <typename T>
  void Value(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  template <typename Elements, typename Visit>
  void List(const Elements& list, const Visit& visit) {
    Value(static_cast<uint32_t>(list.size()));
    for (const auto& element : list) visit(element);
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  void Value(T& value) {
    if (bytes_.size() - offset_ < sizeof(value)) {
      failed_ = true;
      return;
    }
    std::memcpy(&value, bytes_.data() + offset_, sizeof(value));
    offset_ += sizeof(value);
  }
  // Grows with what has been read, not with what a length claims.
  template <typename Elements, typename Visit>
  void List(Elements& list, const Visit& visit) {
    uint32_t size = 0;
    Value(size);
    list.clear();
    for (uint32_t i = 0; i < size && !failed_; ++i) visit(list.emplace_back());
  }
  absl::Status Finish() const {
    if (!failed_ && offset_ == bytes_.size()) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("plan: ", failed_ ? "cut short" : "bytes left over",
                                            " at byte ", offset_, " of ", bytes_.size()));
  }

 private:
  const std::string_view bytes_;
  size_t offset_ = 0;
  bool failed_ = false;
};

}  // namespace

std::string EncodeStepPlan(const StepPlan& plan) {
  Writer writer;
  VisitPlan(writer, plan);
  return writer.Take();
}

absl::StatusOr<StepPlan> DecodeStepPlan(std::string_view bytes) {
  Reader reader(bytes);
  StepPlan plan;
  VisitPlan(reader, plan);
  const absl::Status status = reader.Finish();
  if (!status.ok()) return status;
  return plan;
}

}  // namespace krait
