#include "worker/comm/gloo_communicator.h"

#include <fcntl.h>
#include <gloo/transport/buffer.h>
#include <gloo/transport/context.h>
#include <gloo/transport/pair.h>
#include <gloo/transport/tcp/address.h>
#include <gloo/transport/tcp/device.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/owned_units.h"
#include "common/status_macros.h"

namespace krait {
namespace {

using gloo::transport::Buffer;

// What fits into any socket's buffers even when the peer still has the round before to read: a send
// of so much never waits for it.
constexpr size_t kSmallMessage = 16 << 10;

absl::Status Aborted() { return absl::UnavailableError("the tensor-parallel group was aborted"); }

// Gloo throws; nothing above this file shall.
template <typename Body>
absl::Status CatchingExceptions(const char* what, const Body& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat(what, ": ", error.what()));
  }
}

using SocketName = int (*)(int, sockaddr*, socklen_t*);

// "family host port", as bytes; empty if `fd` is no TCP socket that has such a name.
std::string NameOf(int fd, SocketName name) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (name(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return "";
  if (address.ss_family != AF_INET && address.ss_family != AF_INET6) return "";
  return gloo::transport::tcp::Address(address).str();
}

std::string NameOf(const std::string& address) {
  return gloo::transport::tcp::Address({address.begin(), address.end()}).str();
}

// A pair's socket, by another descriptor: shutting that down wakes whoever reads or writes, which
// Pair::close cannot (it waits for the lock that they hold). Gloo hides its own, so it is found by
// its name: this pair's listener had a port of its own, and so has whoever called.
class PairSocket {
 public:
  // `listened` and `peer` are where this side and the other listened.
  static std::unique_ptr<PairSocket> Find(gloo::transport::Pair& pair, const std::string& listened,
                                          const std::string& peer) {
    const std::vector<char> bytes = pair.address().bytes();
    const std::string local = NameOf(std::string(bytes.begin(), bytes.end()));
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      int original = 0;
      if (!absl::SimpleAtoi(entry.path().filename().string(), &original)) continue;
      const int fd = fcntl(original, F_DUPFD_CLOEXEC, 0);
      if (fd < 0) continue;
      auto socket = std::unique_ptr<PairSocket>(new PairSocket(fd));
      const std::string far_end = NameOf(fd, getpeername);
      if (far_end.empty() || NameOf(fd, getsockname) != local) continue;
      if (local == NameOf(listened) || far_end == NameOf(peer)) return socket;
    }
    return nullptr;
  }
  ~PairSocket() { close(fd_); }
  PairSocket(const PairSocket&) = delete;
  void Shutdown() { shutdown(fd_, SHUT_RDWR); }

 private:
  explicit PairSocket(int fd) : fd_(fd) {}
  const int fd_;
};

// What one rank swaps with one peer.
struct Swap {
  absl::Span<const std::byte> send;
  absl::Span<std::byte> receive;
  bool small() const { return std::max(send.size(), receive.size()) <= kSmallMessage; }
};

// Its pairs are in Gloo's synchronous mode: the rank's own thread reads and writes. With Gloo's
// event loop in between, each message costs two more threads' wake-ups and three packets instead of
// one.
class GlooCommunicator final : public Communicator {
 public:
  GlooCommunicator(std::shared_ptr<gloo::transport::Context> context,
                   std::vector<std::unique_ptr<PairSocket>> sockets, Backend* backend)
      : context_(std::move(context)), backend_(backend), sockets_(std::move(sockets)) {}
  ~GlooCommunicator() override { Abort(); }

  int rank() const override { return context_->rank; }
  int size() const override { return context_->size; }

  absl::Status AllReduceSum(const BlockReduction& reduction) override;
  absl::Status AllGather(absl::Span<const std::byte> send, absl::Span<std::byte> recv) override;
  absl::Status Await() override { return CheckHealth(); }  // ops of a CPU have run
  absl::Status CheckHealth() override { return aborted_ ? Aborted() : absl::OkStatus(); }
  void Abort() override {
    aborted_ = true;
    for (const auto& socket : sockets_) {
      if (socket != nullptr) socket->Shutdown();
    }
  }

 private:
  // One swap a peer, by rank; this rank's own is not used. After an error the group is aborted.
  absl::Status SwapAll(const std::vector<Swap>& swaps);
  void SwapSmall(const std::vector<Swap>& swaps);
  void SwapLarge(const std::vector<Swap>& swaps);
  void Send(int peer, absl::Span<const std::byte> bytes);
  void Receive(int peer, absl::Span<std::byte> bytes);

  const std::shared_ptr<gloo::transport::Context> context_;
  Backend* const backend_;
  const std::vector<std::unique_ptr<PairSocket>> sockets_;  // by rank, null for the own one
  std::atomic<bool> aborted_{false};
  std::vector<float> peer_blocks_;
  std::vector<const float*> blocks_;
};

// One slot for each direction of a pair, as a buffer that is destroyed takes its slot's receiver
// with it.
void GlooCommunicator::Send(int peer, absl::Span<const std::byte> bytes) {
  if (bytes.empty()) return;
  // Gloo only reads from it.
  const std::unique_ptr<Buffer> buffer = context_->getPair(peer)->createSendBuffer(
      rank() < peer ? 0 : 1, const_cast<std::byte*>(bytes.data()), bytes.size());
  buffer->send();
  buffer->waitSend();
}

void GlooCommunicator::Receive(int peer, absl::Span<std::byte> bytes) {
  if (bytes.empty()) return;
  const std::unique_ptr<Buffer> buffer =
      context_->getPair(peer)->createRecvBuffer(peer < rank() ? 0 : 1, bytes.data(), bytes.size());
  buffer->waitRecv();
}

void GlooCommunicator::SwapSmall(const std::vector<Swap>& swaps) {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank() && swaps[peer].small()) Send(peer, swaps[peer].send);
  }
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank() && swaps[peer].small()) Receive(peer, swaps[peer].receive);
  }
}

// Pairs take their turns in one order on all ranks, and of each pair one side listens while the
// other speaks: nobody waits in a circle.
void GlooCommunicator::SwapLarge(const std::vector<Swap>& swaps) {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank() || swaps[peer].small()) continue;
    if (rank() < peer) Send(peer, swaps[peer].send);
    Receive(peer, swaps[peer].receive);
    if (rank() > peer) Send(peer, swaps[peer].send);
  }
}

absl::Status GlooCommunicator::SwapAll(const std::vector<Swap>& swaps) {
  RETURN_IF_ERROR(CheckHealth());
  absl::Status status = CatchingExceptions("a rank is lost", [&] {
    SwapSmall(swaps);
    SwapLarge(swaps);
    return absl::OkStatus();
  });
  if (status.ok()) return status;
  if (aborted_) return Aborted();
  Abort();
  return status;
}

absl::Status GlooCommunicator::AllReduceSum(const BlockReduction& reduction) {
  CHECK(reduction.partials.dense());
  const int64_t block_size = reduction.partials.dim(1) * reduction.partials.dim(2);
  const Range own = OwnedUnits(reduction.num_blocks, rank(), size());
  CHECK_EQ(reduction.first_block, own.begin);
  CHECK_EQ(reduction.partials.dim(0), own.size());
  backend_->Synchronize();
  // A place for every block, also the own ones, which stay where they are.
  peer_blocks_.resize(std::max<size_t>(peer_blocks_.size(), reduction.num_blocks * block_size));
  const auto mine = absl::MakeConstSpan(static_cast<const std::byte*>(reduction.partials.data),
                                        own.size() * block_size * sizeof(float));
  std::vector<Swap> swaps(size());
  for (int peer = 0; peer < size(); ++peer) {
    const Range blocks = OwnedUnits(reduction.num_blocks, peer, size()) * block_size;
    swaps[peer] = {
        .send = mine,
        .receive = absl::MakeSpan(reinterpret_cast<std::byte*>(peer_blocks_.data() + blocks.begin),
                                  blocks.size() * sizeof(float))};
  }
  RETURN_IF_ERROR(SwapAll(swaps));
  blocks_.clear();
  for (int64_t b = 0; b < reduction.num_blocks; ++b) {
    blocks_.push_back(own.begin <= b && b < own.end
                          ? reduction.partials.row<const float>(b - own.begin)
                          : peer_blocks_.data() + b * block_size);
  }
  backend_->SumBlocks({.blocks = blocks_, .residual = reduction.residual, .out = reduction.out});
  return absl::OkStatus();
}

absl::Status GlooCommunicator::AllGather(absl::Span<const std::byte> send,
                                         absl::Span<std::byte> recv) {
  CHECK_EQ(recv.size(), send.size() * size());
  std::vector<Swap> swaps(size());
  for (int peer = 0; peer < size(); ++peer) {
    swaps[peer] = {.send = send, .receive = recv.subspan(peer * send.size(), send.size())};
  }
  RETURN_IF_ERROR(SwapAll(swaps));
  if (!send.empty()) std::memcpy(swaps[rank()].receive.data(), send.data(), send.size());
  return absl::OkStatus();
}

}  // namespace

struct GlooEndpoint::State {
  GlooOptions options;
  std::shared_ptr<gloo::transport::Context> context;
  std::vector<std::string> addresses;
};

GlooEndpoint::GlooEndpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}

GlooEndpoint::~GlooEndpoint() = default;

const std::vector<std::string>& GlooEndpoint::addresses() const { return state_->addresses; }

absl::StatusOr<std::unique_ptr<GlooEndpoint>> GlooEndpoint::Listen(const GlooOptions& options) {
  auto state = std::make_unique<State>();
  state->options = options;
  RETURN_IF_ERROR(CatchingExceptions("cannot listen for the group's ranks", [&] {
    gloo::transport::tcp::attr attr;
    attr.hostname = options.host;
    state->context =
        gloo::transport::tcp::CreateDevice(attr)->createContext(options.rank, options.size);
    state->context->setTimeout(absl::ToChronoMilliseconds(options.timeout));
    for (int peer = 0; peer < options.size; ++peer) {
      std::string& address = state->addresses.emplace_back();
      if (peer == options.rank) continue;
      const std::vector<char> bytes = state->context->createPair(peer)->address().bytes();
      address.assign(bytes.begin(), bytes.end());
    }
    return absl::OkStatus();
  }));
  return std::unique_ptr<GlooEndpoint>(new GlooEndpoint(std::move(state)));
}

absl::StatusOr<std::unique_ptr<Communicator>> GlooEndpoint::Connect(
    absl::Span<const std::string> addresses, Backend* backend) {
  const int size = state_->options.size;
  if (static_cast<int>(addresses.size()) != size) {
    return absl::InternalError(
        absl::StrCat("got the addresses of ", addresses.size(), " ranks of ", size));
  }
  std::vector<std::unique_ptr<PairSocket>> sockets(size);
  RETURN_IF_ERROR(CatchingExceptions("cannot reach the group's ranks", [&] {
    for (int peer = 0; peer < size; ++peer) {
      if (peer == state_->options.rank) continue;
      gloo::transport::Pair& pair = *state_->context->getPair(peer);
      pair.connect({addresses[peer].begin(), addresses[peer].end()});
      pair.setSync(true, /*busyPoll=*/false);
      sockets[peer] = PairSocket::Find(pair, state_->addresses[peer], addresses[peer]);
      if (sockets[peer] == nullptr) return absl::UnavailableError("a pair's socket is closed");
    }
    return absl::OkStatus();
  }));
  return std::make_unique<GlooCommunicator>(state_->context, std::move(sockets), backend);
}

}  // namespace krait
