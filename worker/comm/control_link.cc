#include "worker/comm/control_link.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

enum Kind : uint8_t { kMessage = 1, kBeat = 2, kGoodbye = 3 };

// Never reached: a group sends its next plan when all ranks have the one before.
constexpr size_t kMaxWaiting = 64;
constexpr absl::Duration kTurn = absl::Milliseconds(50);

}  // namespace

ControlLink::ControlLink(std::unique_ptr<FrameSocket> socket, const ControlLinkOptions& options,
                         std::function<void(const absl::Status&)> on_lost)
    : socket_(std::move(socket)),
      options_(options),
      on_lost_(std::move(on_lost)),
      messages_(kMaxWaiting),
      vouched_until_ns_(std::numeric_limits<int64_t>::max()),
      heard_(clock_.Now()),
      last_turn_(clock_.Now()),
      last_beat_(clock_.Now()) {
  thread_ = std::thread([this] { Run(); });
}

void ControlLink::Leave() {
  closing_ = true;
  socket_->Send(kGoodbye, "", options_.beat_interval).IgnoreError();
}

ControlLink::~ControlLink() {
  closing_ = true;
  socket_->Shutdown();
  thread_.join();
}

absl::Status ControlLink::Send(std::string_view message) {
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(ended_);
  }
  return socket_->Send(kMessage, message, options_.silence_limit);
}

absl::StatusOr<std::optional<std::string>> ControlLink::Receive(absl::Duration timeout) {
  std::optional<std::string> message = messages_.Pop(timeout);
  if (message.has_value()) return message;
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(ended_);
  return std::nullopt;
}

void ControlLink::Vouch(absl::Duration duration) {
  vouched_until_ns_ = absl::ToInt64Nanoseconds(clock_.Now() + duration);
}

void ControlLink::Run() {
  absl::Status status;
  while (status.ok()) status = Turn();
  {
    absl::MutexLock lock(&mutex_);
    ended_ = status;
  }
  messages_.Close();
  if (!closing_ && !absl::IsCancelled(status)) on_lost_(status);
}

absl::Status ControlLink::Turn() {
  ASSIGN_OR_RETURN(std::optional<Frame> frame, socket_->Receive(kTurn));
  const absl::Duration now = clock_.Now();
  // Stopped for so long, this process has been given up by its peers, even if what they sent before
  // still lies here.
  if (now - last_turn_ > options_.silence_limit) {
    return absl::UnavailableError(
        absl::StrCat("this process did not run for ", absl::FormatDuration(now - last_turn_)));
  }
  last_turn_ = now;
  if (frame.has_value()) {
    heard_ = now;
    RETURN_IF_ERROR(Take(*std::move(frame)));
  }
  if (now - heard_ > options_.silence_limit) {
    return absl::UnavailableError(
        absl::StrCat("no heartbeat for ", absl::FormatDuration(now - heard_)));
  }
  if (now - last_beat_ < options_.beat_interval || !Vouched()) return absl::OkStatus();
  last_beat_ = now;
  return socket_->Send(kBeat, "", options_.silence_limit);
}

absl::Status ControlLink::Take(Frame frame) {
  switch (frame.kind) {
    case kBeat:
      return absl::OkStatus();
    case kGoodbye:
      return absl::CancelledError("the peer has left the group");
    case kMessage:
      if (messages_.TryPush(std::move(frame.payload))) return absl::OkStatus();
      return absl::InternalError(absl::StrCat("more than ", kMaxWaiting, " messages wait"));
    default:
      return absl::InternalError(absl::StrCat("a frame of unknown kind ", frame.kind));
  }
}

}  // namespace krait
