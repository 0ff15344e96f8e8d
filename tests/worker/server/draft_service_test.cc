#include "worker/server/draft_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/field_error.h"
#include "common/grpc_server.h"
#include "common/grpc_status.h"
#include "common/prefix_hash.h"
#include "worker/speculative/remote_proposer.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int kVocabSize = 50;
constexpr absl::Duration kPatience = absl::Seconds(10);

// Proposes last token + 1, + 2, ...; counts rows that only catch up.
class CountingUp final : public Proposer {
 public:
  struct Seen {
    absl::Mutex mutex;
    int caught_up = 0;  // tokens of the longest row that wanted no drafts
    absl::Duration budget;
    int prompt_tokens = 0;  // of the sequence that began last
    SamplingParams sampling;
  };
  explicit CountingUp(std::shared_ptr<Seen> seen) : seen_(std::move(seen)) {}

  void Begin(SequenceId, absl::Span<const TokenId>, int prompt_tokens,
             const SamplingParams& sampling) override {
    absl::MutexLock lock(&seen_->mutex);
    seen_->prompt_tokens = prompt_tokens;
    seen_->sampling = sampling;
  }
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration budget) override {
    std::vector<std::vector<TokenId>> drafts(rows.size());
    absl::MutexLock lock(&seen_->mutex);
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].hash, PrefixHash(rows[i].tokens));
      if (rows[i].num_draft_tokens == 0) {
        seen_->caught_up = std::max<int>(seen_->caught_up, rows[i].tokens.size());
      } else {
        seen_->budget = budget;
      }
      for (int k = 1; k <= rows[i].num_draft_tokens; ++k) {
        drafts[i].push_back((rows[i].tokens.back() + k) % kVocabSize);
      }
    }
    return drafts;
  }
  void Release(SequenceId) override {}
  ProposalOutcome last_outcome() const override { return {}; }

 private:
  const std::shared_ptr<Seen> seen_;
};

class DraftServiceTest : public ::testing::Test {
 protected:
  DraftServiceTest()
      : runner_(std::make_unique<CountingUp>(seen_), nullptr, /*max_sequences=*/2,
                /*max_context_tokens=*/100, &clock_),
        service_(&clock_) {
    internal::v1::DescribeResponse description;
    description.set_instance_id("d");
    description.set_tokenizer_digest("digest");
    description.set_vocab_size(kVocabSize);
    description.set_max_draft_tokens(4);
    description.set_max_context_tokens(100);
    service_.SetRunner(&runner_, description);
    auto server =
        GrpcServer::Start({}, {{internal::v1::DraftService::service_full_name(), &service_}});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    stub_ = internal::v1::DraftService::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  }

  static internal::v1::ProposeRequest Request(std::vector<TokenId> tokens, int num_draft_tokens) {
    internal::v1::ProposeRequest request;
    request.set_target_instance_id("t");
    request.set_round(5);
    request.set_budget_us(1'000'000);
    auto* row = request.add_rows();
    row->mutable_update()->set_sequence_id(1);
    row->mutable_update()->mutable_token_ids()->Add(tokens.begin(), tokens.end());
    row->set_num_draft_tokens(num_draft_tokens);
    row->set_base_position(static_cast<int>(tokens.size()));
    row->set_base_hash(PrefixHash(tokens));
    return request;
  }

  absl::Status Propose(const internal::v1::ProposeRequest& request) {
    grpc::ClientContext context;
    response_.Clear();
    return FromGrpcStatus(stub_->Propose(&context, request, &response_));
  }

  RealClock clock_;
  std::shared_ptr<CountingUp::Seen> seen_ = std::make_shared<CountingUp::Seen>();
  DraftRunner runner_;
  DraftService service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<internal::v1::DraftService::Stub> stub_;
  internal::v1::ProposeResponse response_;
};

TEST_F(DraftServiceTest, ProposesAndSaysWhatItContinued) {
  ASSERT_TRUE(Propose(Request({3, 4}, 2)).ok());
  EXPECT_EQ(response_.instance_id(), "d");
  EXPECT_EQ(response_.round(), 5u);
  const auto& proposal = response_.proposals(0);
  EXPECT_THAT(proposal.token_ids(), ElementsAre(5, 6));
  EXPECT_EQ(proposal.base_position(), 2);
  EXPECT_EQ(proposal.base_hash(), PrefixHash(std::vector<TokenId>{3, 4}));
  absl::MutexLock lock(&seen_->mutex);
  EXPECT_LE(seen_->budget, absl::Seconds(1));
}

TEST_F(DraftServiceTest, NeverMoreThanItsOwnLimit) {
  ASSERT_TRUE(Propose(Request({3}, 100)).ok());
  EXPECT_EQ(response_.proposals(0).token_ids_size(), 4);
}

TEST_F(DraftServiceTest, AnUnknownSequenceIsAskedForFromTheStart) {
  auto request = Request({3, 4}, 2);
  request.mutable_rows(0)->mutable_update()->set_from_position(1);
  request.mutable_rows(0)->mutable_update()->mutable_token_ids()->RemoveLast();
  ASSERT_TRUE(Propose(request).ok());
  EXPECT_THAT(response_.proposals(0).token_ids(), IsEmpty());
  EXPECT_EQ(response_.proposals(0).known_tokens(), 0);
}

TEST_F(DraftServiceTest, AnotherHistoryIsDropped) {
  auto request = Request({3, 4}, 2);
  request.mutable_rows(0)->set_base_hash(1);
  ASSERT_TRUE(Propose(request).ok());
  EXPECT_THAT(response_.proposals(0).token_ids(), IsEmpty());
  EXPECT_EQ(response_.proposals(0).known_tokens(), 0);
  ASSERT_TRUE(Propose(Request({3, 4}, 2)).ok());
  EXPECT_THAT(response_.proposals(0).token_ids(), ElementsAre(5, 6));
}

TEST_F(DraftServiceTest, WithoutTimeItOnlyLearns) {
  auto request = Request({3, 4}, 2);
  request.set_budget_us(0);
  ASSERT_TRUE(Propose(request).ok());
  EXPECT_THAT(response_.proposals(0).token_ids(), IsEmpty());
  EXPECT_EQ(response_.proposals(0).known_tokens(), 2);
  EXPECT_EQ(runner_.counts().late, 1);
}

TEST_F(DraftServiceTest, CommittedTokensAreCaughtUpWithInItsOwnTime) {
  internal::v1::CommitRequest commit;
  commit.set_target_instance_id("t");
  auto* update = commit.add_updates();
  update->set_sequence_id(1);
  for (int i = 0; i < 60; ++i) update->add_token_ids(i % kVocabSize);
  grpc::ClientContext context;
  internal::v1::CommitResponse response;
  ASSERT_TRUE(stub_->Commit(&context, commit, &response).ok());
  EXPECT_EQ(response.known(0).known_tokens(), 60);
  absl::MutexLock lock(&seen_->mutex);
  const auto caught_up = [this] { return seen_->caught_up == 60; };
  EXPECT_TRUE(seen_->mutex.AwaitWithTimeout(absl::Condition(&caught_up), kPatience));
}

TEST_F(DraftServiceTest, TokensOutsideTheVocabularyAreRefused) {
  EXPECT_EQ(ErrorField(Propose(Request({3, kVocabSize}, 2))), "token_ids");
  EXPECT_EQ(ErrorField(Propose(Request({-1}, 2))), "token_ids");
  auto request = Request({3}, 2);
  request.mutable_rows(0)->mutable_update()->set_from_position(-1);
  EXPECT_EQ(ErrorField(Propose(request)), "from_position");
  request.clear_target_instance_id();
  EXPECT_EQ(ErrorField(Propose(request)), "target_instance_id");
}

TEST_F(DraftServiceTest, EndTokenIdsAreFewAndOfTheVocabulary) {
  auto request = Request({3}, 2);
  auto& update = *request.mutable_rows(0)->mutable_update();
  for (int i = 0; i < 128; ++i) update.add_end_token_ids(i % kVocabSize);
  EXPECT_TRUE(Propose(request).ok());
  update.add_end_token_ids(1);
  EXPECT_EQ(ErrorField(Propose(request)), "end_token_ids");
  update.clear_end_token_ids();
  update.add_end_token_ids(kVocabSize);
  EXPECT_EQ(ErrorField(Propose(request)), "end_token_ids");
}

// A draft that drew otherwise than its target would only be slow, and nobody would notice.
TEST_F(DraftServiceTest, ARemoteProposerHandsOverHowTheTargetDraws) {
  RemoteProposer proposer(
      {.address = server_->address(), .tokenizer_digest = "digest", .vocab_size = kVocabSize},
      "target", &clock_);
  const absl::Time end = absl::Now() + kPatience;
  while (!proposer.connected() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(2));
  const SamplingParams sampling{.temperature = 0.5f,
                                .top_k = 7,
                                .top_p = 0.75f,
                                .min_p = 0.125f,
                                .repetition_penalty = 1.5f,
                                .presence_penalty = 0.25f,
                                .frequency_penalty = -0.5f,
                                .seed = 1ull << 60,
                                .choice = 3,
                                .logit_bias = {{2, -100}, {49, 0.5f}},
                                .min_tokens = 500,  // beyond the draft's context
                                .end_ids = {0, 17}};
  proposer.Begin(1, {4, 5, 6}, 2, sampling);
  absl::MutexLock lock(&seen_->mutex);
  const auto begun = [&] { return seen_->prompt_tokens == 2; };
  ASSERT_TRUE(seen_->mutex.AwaitWithTimeout(absl::Condition(&begun), kPatience));
  const SamplingParams& seen = seen_->sampling;
  EXPECT_EQ(seen.temperature, sampling.temperature);
  EXPECT_EQ(seen.top_k, sampling.top_k);
  EXPECT_EQ(seen.top_p, sampling.top_p);
  EXPECT_EQ(seen.min_p, sampling.min_p);
  EXPECT_EQ(seen.repetition_penalty, sampling.repetition_penalty);
  EXPECT_EQ(seen.presence_penalty, sampling.presence_penalty);
  EXPECT_EQ(seen.frequency_penalty, sampling.frequency_penalty);
  EXPECT_EQ(seen.seed, sampling.seed);
  EXPECT_EQ(seen.choice, sampling.choice);
  ASSERT_EQ(seen.logit_bias.size(), 2u);
  EXPECT_EQ(seen.logit_bias[0].id, 2);
  EXPECT_EQ(seen.logit_bias[0].bias, -100);
  EXPECT_EQ(seen.logit_bias[1].id, 49);
  EXPECT_EQ(seen.logit_bias[1].bias, 0.5f);
  EXPECT_EQ(seen.min_tokens, sampling.min_tokens);
  EXPECT_EQ(seen.end_ids, sampling.end_ids);
}

// Both ends together: more sequences than the draft keeps, so that it forgets and is told again.
TEST_F(DraftServiceTest, ARemoteProposerGetsDraftsAcrossEvictions) {
  RemoteProposer proposer(
      {.address = server_->address(), .tokenizer_digest = "digest", .vocab_size = kVocabSize},
      "target", &clock_);
  const absl::Time end = absl::Now() + kPatience;
  while (!proposer.connected() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(2));
  std::vector<std::vector<TokenId>> tokens = {{1}, {10}, {20}};
  for (int i = 0; i < 3; ++i) proposer.Begin(i, tokens[i], 1, {});
  int drafts = 0;
  for (int step = 0; step < 60; ++step) {
    auto& sequence = tokens[step % 3];
    const ProposalRow row{
        .id = step % 3, .tokens = sequence, .hash = PrefixHash(sequence), .num_draft_tokens = 2};
    const auto proposed = proposer.Propose(absl::MakeConstSpan(&row, 1), absl::Seconds(5))[0];
    if (!proposed.empty()) {
      EXPECT_THAT(proposed, ElementsAre((sequence.back() + 1) % kVocabSize,
                                        (sequence.back() + 2) % kVocabSize));
      ++drafts;
    }
    // Every second round of a sequence commits nothing: the next call can be told everything.
    if (step % 6 < 3) sequence.push_back(step % kVocabSize);
  }
  EXPECT_GT(drafts, 0);
}

}  // namespace
}  // namespace krait
