#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "krait/internal/v1/draft.grpc.pb.h"

namespace krait {

struct DraftLinkOptions {
  std::string address;           // "host:port"
  std::string tokenizer_digest;  // of the target
  int vocab_size = 0;            // of the target
  absl::Duration probe_interval = absl::Seconds(1);
  absl::Duration call_timeout = absl::Milliseconds(500);  // of one probe
  absl::Duration max_backoff = absl::Milliseconds(500);
};

// A draft that fits the target.
struct DraftPeer {
  std::string instance_id;
  int max_draft_tokens = 0;
  int max_context_tokens = 0;
};

// Why a draft that describes itself so cannot propose for this target: "tokenizer_mismatch",
// "vocabulary", "token_map" (not increasing, or leaves the vocabulary); empty if it can.
std::string_view CheckDraftDescription(const internal::v1::DescribeResponse& description,
                                       const DraftLinkOptions& options);

// Knows whether a fitting draft can be reached: asks who it is at every interval, and within half a
// second again after it was lost. Logs one line when the draft is lost and one when it is back. Has
// one thread of its own; thread-safe.
class DraftLink {
 public:
  explicit DraftLink(const DraftLinkOptions& options);
  ~DraftLink();  // waits for at most one probe
  DraftLink(const DraftLink&) = delete;

  // Null while there is none.
  std::shared_ptr<const DraftPeer> peer() const;
  // "disconnected" or what CheckDraftDescription says; empty while there is a peer. Never blocks.
  std::string_view disabled_reason() const { return reason_.load(std::memory_order_acquire); }
  // A call failed, or another instance answered: no peer until the next probe, which comes now.
  void ReportLost();

  const std::shared_ptr<internal::v1::DraftService::Stub>& stub() const { return stub_; }

 private:
  void Run();
  bool Probe();
  void SetPeer(std::shared_ptr<const DraftPeer> peer, const char* reason,
               const std::string& detail);
  bool WaitFor(absl::Duration duration);

  const DraftLinkOptions options_;
  const std::shared_ptr<internal::v1::DraftService::Stub> stub_;
  std::atomic<const char*> reason_{"disconnected"};

  mutable absl::Mutex mutex_;
  std::shared_ptr<const DraftPeer> peer_ ABSL_GUARDED_BY(mutex_);
  bool poked_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  const char* logged_ = nullptr;  // the reason of the last line; link's thread only
  std::thread thread_;
};

}  // namespace krait
