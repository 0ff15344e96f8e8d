#include "worker/speculative/draft_link.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace krait {
namespace {

constexpr char kDisconnected[] = "disconnected";
constexpr absl::Duration kMinBackoff = absl::Milliseconds(50);

std::shared_ptr<internal::v1::DraftService::Stub> Dial(const std::string& address) {
  grpc::ChannelArguments arguments;
  // A draft that comes back must be found at once: gRPC's own back-off grows to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 250);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 250);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return internal::v1::DraftService::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

bool IsIncreasingInto(const google::protobuf::RepeatedField<int32_t>& map, int vocab_size) {
  int32_t last = -1;
  for (int32_t id : map) {
    if (id <= last || id >= vocab_size) return false;
    last = id;
  }
  return true;
}

}  // namespace

std::string_view CheckDraftDescription(const internal::v1::DescribeResponse& description,
                                       const DraftLinkOptions& options) {
  if (description.tokenizer_digest() != options.tokenizer_digest) return "tokenizer_mismatch";
  if (description.vocab_size() != options.vocab_size) return "vocabulary";
  if (!IsIncreasingInto(description.token_map(), options.vocab_size)) return "token_map";
  return "";
}

DraftLink::DraftLink(const DraftLinkOptions& options)
    : options_(options), stub_(Dial(options.address)) {
  thread_ = std::thread([this] { Run(); });
}

DraftLink::~DraftLink() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

std::shared_ptr<const DraftPeer> DraftLink::peer() const {
  absl::MutexLock lock(&mutex_);
  return peer_;
}

void DraftLink::ReportLost() {
  absl::MutexLock lock(&mutex_);
  peer_ = nullptr;
  reason_.store(kDisconnected, std::memory_order_release);
  poked_ = true;
}

void DraftLink::Run() {
  absl::Duration backoff = kMinBackoff;
  for (;;) {
    const bool answered = Probe();
    if (!WaitFor(answered ? options_.probe_interval : backoff)) return;
    backoff = answered ? kMinBackoff : std::min(backoff * 2, options_.max_backoff);
  }
}

bool DraftLink::Probe() {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       absl::ToChronoMilliseconds(options_.call_timeout));
  internal::v1::DescribeResponse description;
  const grpc::Status status = stub_->Describe(&context, {}, &description);
  if (!status.ok()) {
    SetPeer(nullptr, kDisconnected, status.error_message());
    return false;
  }
  const std::string_view reason = CheckDraftDescription(description, options_);
  if (!reason.empty()) {
    SetPeer(nullptr, reason.data(),  // a literal: terminated
            absl::StrCat("model=", description.model(), " tokenizer=",
                         description.tokenizer_digest(), " vocab_size=", description.vocab_size()));
    return true;
  }
  auto peer = std::make_shared<DraftPeer>();
  peer->instance_id = description.instance_id();
  peer->max_draft_tokens = description.max_draft_tokens();
  peer->max_context_tokens = description.max_context_tokens();
  SetPeer(std::move(peer), "", absl::StrCat("instance=", description.instance_id()));
  return true;
}

void DraftLink::SetPeer(std::shared_ptr<const DraftPeer> peer, const char* reason,
                        const std::string& detail) {
  const bool usable = peer != nullptr;
  {
    absl::MutexLock lock(&mutex_);
    peer_ = std::move(peer);
    reason_.store(reason, std::memory_order_release);
  }
  if (logged_ != nullptr && std::strcmp(logged_, reason) == 0) return;
  logged_ = reason;
  if (usable) {
    LOG(INFO) << "draft=" << options_.address << " msg=\"draft in use\" " << detail;
  } else {
    LOG(WARNING) << "draft=" << options_.address << " reason=" << reason
                 << " msg=\"no speculation\" detail=" << LogText(detail);
  }
}

bool DraftLink::WaitFor(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  const auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return poked_ || stopping_; };
  mutex_.AwaitWithTimeout(absl::Condition(&wake), duration);
  poked_ = false;
  return !stopping_;
}

}  // namespace krait
