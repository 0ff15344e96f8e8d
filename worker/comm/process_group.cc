#include "worker/comm/process_group.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/field_error.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace krait {
namespace {

// Of the handshake, before a socket becomes a ControlLink.
enum Kind : uint8_t { kHello = 100, kWelcome = 101, kRefused = 102 };
constexpr char kMagic[] = "krait process group 1";
constexpr absl::Duration kHelloTimeout = absl::Seconds(2);
constexpr absl::Duration kForEver = absl::Hours(24);

absl::StatusOr<Frame> ReceiveKind(FrameSocket& socket, absl::Duration timeout) {
  ASSIGN_OR_RETURN(std::optional<Frame> frame, socket.Receive(timeout));
  if (!frame.has_value()) return absl::UnavailableError("the peer says nothing");
  return *std::move(frame);
}

std::string HelloOf(const ProcessGroupOptions& options) {
  return PackStrings({kMagic, absl::StrCat(options.process_index),
                      absl::StrCat(options.num_processes), options.settings});
}

// The index of the process that calls. INVALID_ARGUMENT if it does not belong here.
absl::StatusOr<int> CheckHello(const ProcessGroupOptions& options, const Frame& frame) {
  const auto fields = UnpackStrings(frame.payload);
  int index = 0;
  if (frame.kind != kHello || !fields.ok() || fields->size() != 4 || (*fields)[0] != kMagic ||
      !absl::SimpleAtoi((*fields)[1], &index)) {
    return absl::InvalidArgumentError("not a process of a group");
  }
  if (index < 1 || index >= options.num_processes ||
      (*fields)[2] != absl::StrCat(options.num_processes)) {
    return absl::InvalidArgumentError(absl::StrCat("process_index: ", index, " of ", (*fields)[2],
                                                   " processes, but this group has ",
                                                   options.num_processes));
  }
  if ((*fields)[3] != options.settings) {
    return absl::InvalidArgumentError(absl::StrCat("they differ: process ", index, " has ",
                                                   (*fields)[3], ", process 0 has ",
                                                   options.settings));
  }
  return index;
}

}  // namespace

std::string PackStrings(absl::Span<const std::string> strings) {
  std::string packed;
  for (const std::string& text : strings) {
    const auto size = static_cast<uint32_t>(text.size());
    packed.append(reinterpret_cast<const char*>(&size), sizeof(size));
    packed.append(text);
  }
  return packed;
}

absl::StatusOr<std::vector<std::string>> UnpackStrings(std::string_view packed) {
  std::vector<std::string> strings;
  while (!packed.empty()) {
    uint32_t size = 0;
    if (packed.size() < sizeof(size)) return absl::InternalError("a list that is cut short");
    std::memcpy(&size, packed.data(), sizeof(size));
    packed.remove_prefix(sizeof(size));
    if (packed.size() < size) return absl::InternalError("a list that is cut short");
    strings.emplace_back(packed.substr(0, size));
    packed.remove_prefix(size);
  }
  return strings;
}

absl::StatusOr<ProcessGroup::Sockets> ProcessGroup::Gather(const ProcessGroupOptions& options) {
  ASSIGN_OR_RETURN(const auto listener, FrameListener::Listen(options.host, options.port));
  const RealClock clock;
  const absl::Duration end = clock.Now() + options.join_timeout;
  Sockets sockets(options.num_processes);
  for (int missing = options.num_processes - 1; missing > 0;) {
    auto socket = listener->Accept(end - clock.Now());
    if (!socket.ok()) {
      return absl::UnavailableError(
          absl::StrCat(missing, " of ", options.num_processes, " processes have not joined"));
    }
    const auto hello = ReceiveKind(**socket, kHelloTimeout);
    if (!hello.ok()) continue;
    const absl::StatusOr<int> index = CheckHello(options, *hello);
    if (!index.ok()) {
      LOG(WARNING) << "msg=\"refused a process\" error=" << LogText(index.status().ToString());
      (*socket)->Send(kRefused, std::string(index.status().message()), kHelloTimeout).IgnoreError();
      continue;
    }
    // A process that calls again was started again.
    if (sockets[*index] == nullptr) --missing;
    sockets[*index] = *std::move(socket);
  }
  sockets.erase(sockets.begin());  // this process itself
  for (const auto& socket : sockets) {
    RETURN_IF_ERROR(socket->Send(kWelcome, "", kHelloTimeout));
  }
  return sockets;
}

absl::StatusOr<std::unique_ptr<FrameSocket>> ProcessGroup::Call(
    const ProcessGroupOptions& options) {
  ASSIGN_OR_RETURN(auto socket,
                   FrameSocket::Dial(options.host, options.port, options.join_timeout));
  RETURN_IF_ERROR(socket->Send(kHello, HelloOf(options), kHelloTimeout));
  ASSIGN_OR_RETURN(const Frame answer, ReceiveKind(*socket, options.join_timeout));
  if (answer.kind == kWelcome) return socket;
  return FieldError("processes", answer.payload);
}

absl::StatusOr<std::unique_ptr<ProcessGroup>> ProcessGroup::Join(
    const ProcessGroupOptions& options, std::function<void(const absl::Status&)> on_lost) {
  Sockets sockets;
  if (options.process_index == 0) {
    ASSIGN_OR_RETURN(sockets, Gather(options));
  } else {
    ASSIGN_OR_RETURN(auto socket, Call(options));
    sockets.push_back(std::move(socket));
  }
  std::unique_ptr<ProcessGroup> group(new ProcessGroup(options));
  group->local_host_ = sockets[0]->local_host();
  for (size_t i = 0; i < sockets.size(); ++i) {
    const size_t peer = options.process_index == 0 ? i + 1 : 0;
    group->links_.push_back(std::make_unique<ControlLink>(
        std::move(sockets[i]), options.link, [on_lost, peer](const absl::Status& status) {
          on_lost(absl::UnavailableError(
              absl::StrCat("process ", peer, " of the group is lost: ", status.message())));
        }));
  }
  return group;
}

ProcessGroup::~ProcessGroup() = default;

void ProcessGroup::Leave() {
  for (const auto& link : links_) link->Leave();
}

absl::StatusOr<std::vector<std::string>> ProcessGroup::Exchange(std::string_view mine) {
  if (!leads()) {
    RETURN_IF_ERROR(links_[0]->Send(mine));
    ASSIGN_OR_RETURN(const auto packed, links_[0]->Receive(kForEver));
    return UnpackStrings(packed.value_or(""));
  }
  std::vector<std::string> all = {std::string(mine)};
  for (const auto& link : links_) {
    ASSIGN_OR_RETURN(auto theirs, link->Receive(kForEver));
    all.push_back(std::move(theirs).value_or(""));
  }
  RETURN_IF_ERROR(Broadcast(PackStrings(all)));
  return all;
}

absl::Status ProcessGroup::Broadcast(std::string_view message) {
  for (const auto& link : links_) RETURN_IF_ERROR(link->Send(message));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> ProcessGroup::Receive(absl::Duration timeout) {
  return links_[0]->Receive(timeout);
}

void ProcessGroup::Vouch(absl::Duration duration) {
  for (const auto& link : links_) link->Vouch(duration);
}

}  // namespace krait
