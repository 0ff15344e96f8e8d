#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/server/prepared_request.h"
#include "coordinator/server/session_context.h"

namespace krait {

// One request's way past the limits: in, while it waits for a worker, and out. Every refusal is
// counted under its reason and tells the client when to come again. Not thread-safe: its session's
// lock protects it.
class SessionAdmission {
 public:
  SessionAdmission(const SessionContext& context, absl::Duration deadline)
      : context_(context), deadline_(deadline) {}

  // Refuses before the prompt is encoded: what is refused must cost next to nothing, or an overload
  // takes the time from those that are served. DEADLINE_EXCEEDED if it has passed,
  // RESOURCE_EXHAUSTED names the limit.
  absl::Status CheckEntry() const;
  // Only whether there is room for one more.
  absl::Status CheckRoom() const;
  // Takes its share of the limits. RESOURCE_EXHAUSTED names the one that is in the way.
  absl::Status Admit(const PreparedRequest& request);
  // It waits for a worker. RESOURCE_EXHAUSTED if too many do.
  absl::Status EnterQueue();
  // It does not, or no more.
  void LeaveQueue() { ticket_.LeaveQueue(); }
  // Gives back its share; `served`: the client got tokens.
  void Leave(bool served);

 private:
  absl::Status CheckDeadline() const;
  absl::Status Refuse(Rejection reason, const absl::Status& why) const;

  const SessionContext& context_;
  const absl::Duration deadline_;
  AdmissionTicket ticket_;
};

// The same RESOURCE_EXHAUSTED for all who may come again.
absl::Status ComeAgain(const absl::Status& why);

}  // namespace krait
