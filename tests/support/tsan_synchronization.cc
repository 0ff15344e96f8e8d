// Shows ThreadSanitizer what absl::Mutex and absl::Notification order. Debian's
// libabsl_synchronization is not instrumented, so without this every access that they guard looks
// like a race. Linked only into tests that are built with -fsanitize=thread: each function takes
// the library's place, calls it, and tells TSan of the happens-before edge. ReaderLockWhen*,
// LockWhenWithDeadline and CondVar are not used in this repository, nor is
// WaitForNotificationWithDeadline.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace absl {
ABSL_NAMESPACE_BEGIN

namespace {

// The library's own function of that mangled name.
template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

// A condition that is also evaluated by the thread that unlocks, inside the library, after that
// thread's release was told: so it brackets itself.
struct TracedCondition {
  bool Eval() const {
    __tsan_acquire(mutex);
    const bool holds = condition.Eval();
    __tsan_release(mutex);
    return holds;
  }
  Mutex* mutex;
  const Condition& condition;
};

// Calls `wait(condition)` with the traced condition; `held`: the caller holds the mutex.
template <typename Wait>
auto Traced(Mutex* mutex, bool held, const Condition& condition, Wait wait) {
  const TracedCondition traced{mutex, condition};
  if (held) __tsan_release(mutex);
  struct AcquireAtEnd {
    ~AcquireAtEnd() { __tsan_acquire(mutex); }
    Mutex* mutex;
  } acquire{mutex};
  return wait(Condition(&traced, &TracedCondition::Eval));
}

}  // namespace

void Mutex::Lock() {
  static auto* const next = Next<void(Mutex*)>("_ZN4absl7debian35Mutex4LockEv");
  next(this);
  __tsan_acquire(this);
}

void Mutex::Unlock() {
  static auto* const next = Next<void(Mutex*)>("_ZN4absl7debian35Mutex6UnlockEv");
  __tsan_release(this);
  next(this);
}

bool Mutex::TryLock() {
  static auto* const next = Next<bool(Mutex*)>("_ZN4absl7debian35Mutex7TryLockEv");
  const bool locked = next(this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::ReaderLock() {
  static auto* const next = Next<void(Mutex*)>("_ZN4absl7debian35Mutex10ReaderLockEv");
  next(this);
  __tsan_acquire(this);
}

void Mutex::ReaderUnlock() {
  static auto* const next = Next<void(Mutex*)>("_ZN4absl7debian35Mutex12ReaderUnlockEv");
  __tsan_release(this);
  next(this);
}

void Mutex::Await(const Condition& condition) {
  static auto* const next =
      Next<void(Mutex*, const Condition&)>("_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE");
  Traced(this, true, condition, [&](const Condition& traced) { next(this, traced); });
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  static auto* const next = Next<bool(Mutex*, const Condition&, Duration)>(
      "_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return Traced(this, true, condition,
                [&](const Condition& traced) { return next(this, traced, timeout); });
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  static auto* const next = Next<bool(Mutex*, const Condition&, Time)>(
      "_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return Traced(this, true, condition,
                [&](const Condition& traced) { return next(this, traced, deadline); });
}

void Mutex::LockWhen(const Condition& condition) {
  static auto* const next =
      Next<void(Mutex*, const Condition&)>("_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE");
  Traced(this, false, condition, [&](const Condition& traced) { next(this, traced); });
}

bool Mutex::LockWhenWithTimeout(const Condition& condition, Duration timeout) {
  static auto* const next = Next<bool(Mutex*, const Condition&, Duration)>(
      "_ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return Traced(this, false, condition,
                [&](const Condition& traced) { return next(this, traced, timeout); });
}

void Notification::Notify() {
  static auto* const next = Next<void(Notification*)>("_ZN4absl7debian312Notification6NotifyEv");
  __tsan_release(this);
  next(this);
}

void Notification::WaitForNotification() const {
  static auto* const next =
      Next<void(const Notification*)>("_ZNK4absl7debian312Notification19WaitForNotificationEv");
  next(this);
  __tsan_acquire(const_cast<Notification*>(this));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  static auto* const next = Next<bool(const Notification*, Duration)>(
      "_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  const bool notified = next(this, timeout);
  if (notified) __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

ABSL_NAMESPACE_END
}  // namespace absl
