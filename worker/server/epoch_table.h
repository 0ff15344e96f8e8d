#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace krait {

// Under which epoch each coordinator knows this worker. A request of another epoch was meant for an
// earlier life of the worker, or comes from a coordinator whose lease on it has run out.
// Thread-safe.
class EpochTable {
 public:
  // `registers`: whether this worker registers at all. One that does not takes every epoch.
  explicit EpochTable(bool registers) : registers_(registers) {}

  void Set(const std::string& coordinator, uint64_t epoch) {
    absl::MutexLock lock(&mutex_);
    epochs_[coordinator] = epoch;
    ++num_registrations_;
  }

  void Clear(const std::string& coordinator) {
    absl::MutexLock lock(&mutex_);
    epochs_.erase(coordinator);
  }

  // Coordinators that know this worker now.
  int size() const {
    absl::MutexLock lock(&mutex_);
    return static_cast<int>(epochs_.size());
  }

  // Registrations so far, with all coordinators together: each gave another epoch.
  int num_registrations() const {
    absl::MutexLock lock(&mutex_);
    return num_registrations_;
  }

  bool Accepts(uint64_t epoch) const {
    if (!registers_) return true;
    absl::MutexLock lock(&mutex_);
    for (const auto& [coordinator, current] : epochs_) {
      if (current == epoch) return true;
    }
    return false;
  }

 private:
  const bool registers_;
  mutable absl::Mutex mutex_;
  int num_registrations_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, uint64_t> epochs_ ABSL_GUARDED_BY(mutex_);  // by coordinator's address
};

}  // namespace krait
