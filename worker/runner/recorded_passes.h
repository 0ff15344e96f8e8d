#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/backend.h"
#include "worker/layers/forward_context.h"

namespace krait {

// Small passes of a shape that comes again, recorded once (Backend::Record): with a few rows a
// device is done with an op before the host has started the next one. Rank thread only.
class RecordedPasses {
 public:
  explicit RecordedPasses(Backend* backend) : backend_(backend) {}

  // Runs `pass`, or what was recorded of an equal one: equal in its shapes and in where its arrays
  // lie. Returns the error of `pass`.
  absl::Status Run(const ForwardContext& context, absl::FunctionRef<absl::Status()> pass);

 private:
  // Tokens, sequences, page table stride, logits, whether it draws and with filters, address of the
  // arrays.
  using Key = std::tuple<int64_t, int, int64_t, int64_t, bool, bool, const void*>;

  Backend* const backend_;
  std::map<Key, std::unique_ptr<RecordedOps>> passes_;  // null: has run once
};

}  // namespace krait
