#include "worker/comm/in_process_communicator.h"

#include <array>
#include <cstring>
#include <utility>

#include "common/logging.h"
#include "worker/comm/thread_barrier.h"

namespace krait {
namespace {

// What one rank shows its peers in one round.
struct Post {
  bool is_reduction = false;
  TensorView partials;
  int64_t first_block = 0;
  std::vector<std::byte> bytes;  // grows to the largest gather, then stays
};

// Posts alternate between two sets. A rank writes set p again two rounds later; before that it has
// met its peers once more, so they have finished reading. One meeting a round is therefore enough.
struct Group {
  explicit Group(int size)
      : barrier(size), posts{std::vector<Post>(size), std::vector<Post>(size)} {}

  ThreadBarrier barrier;
  std::array<std::vector<Post>, 2> posts;  // [round & 1][rank]
};

absl::Status Aborted() { return absl::UnavailableError("the tensor-parallel group was aborted"); }

class InProcessCommunicator final : public Communicator {
 public:
  InProcessCommunicator(std::shared_ptr<Group> group, int rank, int size, Backend* backend)
      : group_(std::move(group)), rank_(rank), size_(size), backend_(backend) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  absl::Status AllReduceSum(const BlockReduction& reduction) override;
  absl::Status AllGather(absl::Span<const std::byte> send, absl::Span<std::byte> recv) override;
  absl::Status Await() override { return CheckHealth(); }  // ops of a CPU have run
  absl::Status CheckHealth() override {
    return group_->barrier.aborted() ? Aborted() : absl::OkStatus();
  }
  void Abort() override { group_->barrier.Abort(); }

 private:
  Post& MyPost() { return group_->posts[round_ & 1][rank_]; }
  // Meets all ranks; their posts of this round, or null after an abort.
  const std::vector<Post>* Meet();
  void CollectBlocks(const std::vector<Post>& posts, const BlockReduction& mine);

  const std::shared_ptr<Group> group_;
  const int rank_;
  const int size_;
  Backend* const backend_;
  uint32_t round_ = 0;
  std::vector<const float*> blocks_;  // scratch
};

const std::vector<Post>* InProcessCommunicator::Meet() {
  const std::vector<Post>& posts = group_->posts[round_ & 1];
  ++round_;
  return group_->barrier.Arrive() ? &posts : nullptr;
}

void InProcessCommunicator::CollectBlocks(const std::vector<Post>& posts,
                                          const BlockReduction& mine) {
  blocks_.clear();
  for (const Post& post : posts) {
    CHECK(post.is_reduction) << "ranks make different calls";
    CHECK_EQ(post.first_block, static_cast<int64_t>(blocks_.size()));
    CHECK_EQ(post.partials.dim(1), mine.partials.dim(1));
    CHECK_EQ(post.partials.dim(2), mine.partials.dim(2));
    for (int64_t b = 0; b < post.partials.dim(0); ++b) {
      blocks_.push_back(post.partials.row<const float>(b));
    }
  }
  CHECK_EQ(static_cast<int64_t>(blocks_.size()), mine.num_blocks);
}

absl::Status InProcessCommunicator::AllReduceSum(const BlockReduction& reduction) {
  CHECK(reduction.partials.dense());
  Post& post = MyPost();
  post.is_reduction = true;
  post.partials = reduction.partials;
  post.first_block = reduction.first_block;
  backend_->Synchronize();
  const std::vector<Post>* posts = Meet();
  if (posts == nullptr) return Aborted();
  CollectBlocks(*posts, reduction);
  backend_->SumBlocks({.blocks = blocks_, .residual = reduction.residual, .out = reduction.out});
  return absl::OkStatus();
}

absl::Status InProcessCommunicator::AllGather(absl::Span<const std::byte> send,
                                              absl::Span<std::byte> recv) {
  CHECK_EQ(recv.size(), send.size() * size_);
  Post& post = MyPost();
  post.bytes.assign(send.begin(), send.end());
  post.is_reduction = false;
  const std::vector<Post>* posts = Meet();
  if (posts == nullptr) return Aborted();
  for (int r = 0; r < size_; ++r) {
    CHECK(!(*posts)[r].is_reduction) << "ranks make different calls";
    CHECK_EQ((*posts)[r].bytes.size(), send.size());
    if (send.empty()) continue;
    std::memcpy(recv.data() + r * send.size(), (*posts)[r].bytes.data(), send.size());
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> CreateInProcessGroup(
    absl::Span<Backend* const> backends) {
  const int size = static_cast<int>(backends.size());
  CHECK_GE(size, 1);
  auto group = std::make_shared<Group>(size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < size; ++rank) {
    communicators.push_back(
        std::make_unique<InProcessCommunicator>(group, rank, size, backends[rank]));
  }
  return communicators;
}

}  // namespace krait
