#pragma once

#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace krait {

// The request ids that live requests have claimed. Thread-safe; outlives every claim.
class LiveIds {
 public:
  // Holds an id while it lives.
  class Claim {
   public:
    Claim() = default;  // of nothing
    Claim(Claim&& other) noexcept { swap(other); }
    Claim& operator=(Claim&& other) noexcept {
      Claim(std::move(other)).swap(*this);
      return *this;
    }
    ~Claim() {
      if (owner_ != nullptr) owner_->Release(id_);
    }

    explicit operator bool() const { return owner_ != nullptr; }

   private:
    friend class LiveIds;
    Claim(LiveIds* owner, std::string id) : owner_(owner), id_(std::move(id)) {}
    void swap(Claim& other) noexcept {
      std::swap(owner_, other.owner_);
      id_.swap(other.id_);
    }

    LiveIds* owner_ = nullptr;
    std::string id_;
  };

  // A claim of nothing if a live request has this id.
  Claim TryClaim(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    return ids_.insert(id).second ? Claim(this, id) : Claim();
  }

 private:
  void Release(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    ids_.erase(id);
  }

  absl::Mutex mutex_;
  std::set<std::string> ids_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace krait
