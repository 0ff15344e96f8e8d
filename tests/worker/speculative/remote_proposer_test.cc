#include "worker/speculative/remote_proposer.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/grpc_server.h"
#include "common/prefix_hash.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr absl::Duration kBudget = absl::Seconds(5);  // far beyond what an honest answer takes
constexpr int kVocabSize = 50;

// A draft that remembers what it was told and proposes last token + 1, + 2, ...; `spoil` then
// changes the answer. Can be stopped and started again at the same address under another instance
// id.
class FakeDraft final : public internal::v1::DraftService::CallbackService {
 public:
  explicit FakeDraft(std::string tokenizer = "digest") {
    description_.set_tokenizer_digest(std::move(tokenizer));
    description_.set_vocab_size(kVocabSize);
    description_.set_max_draft_tokens(8);
    description_.set_max_context_tokens(100);
    Start("instance-1", "127.0.0.1:0");
  }

  void Start(const std::string& instance, const std::string& address) {
    {
      absl::MutexLock lock(&mutex_);
      description_.set_instance_id(instance);
      tokens_.clear();
    }
    GrpcServerOptions options;
    options.listen = address;
    auto server =
        GrpcServer::Start(options, {{internal::v1::DraftService::service_full_name(), this}});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    address_ = server_->address();
  }
  void Stop() { server_.reset(); }
  const std::string& address() const { return address_; }

  internal::v1::DescribeResponse& description() { return description_; }  // before it is asked
  void SetSpoil(std::function<void(internal::v1::ProposeResponse&)> spoil) {
    absl::MutexLock lock(&mutex_);
    spoil_ = std::move(spoil);
  }
  // Proposals are kept back until the client gives up.
  void SetSilent(bool silent) {
    absl::MutexLock lock(&mutex_);
    silent_ = silent;
  }
  void Forget() {
    absl::MutexLock lock(&mutex_);
    tokens_.clear();
  }
  int proposals() const {
    absl::MutexLock lock(&mutex_);
    return proposals_;
  }
  // Updates that left out tokens the draft did not have.
  int gaps() const {
    absl::MutexLock lock(&mutex_);
    return gaps_;
  }
  internal::v1::ProposeRequest last_request() const {
    absl::MutexLock lock(&mutex_);
    return last_request_;
  }
  bool WaitForTokens(int64_t id, size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto known = [&] { return tokens_.count(id) > 0 && tokens_.at(id).size() == count; };
    return mutex_.AwaitWithTimeout(absl::Condition(&known), kPatience);
  }
  bool WaitForRelease(int64_t id) {
    absl::MutexLock lock(&mutex_);
    const auto gone = [&] { return tokens_.count(id) == 0; };
    return mutex_.AwaitWithTimeout(absl::Condition(&gone), kPatience);
  }

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const internal::v1::DescribeRequest*,
                                     internal::v1::DescribeResponse* response) override {
    absl::MutexLock lock(&mutex_);
    *response = description_;
    return Ok(context);
  }
  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context,
                                   const internal::v1::CommitRequest* request,
                                   internal::v1::CommitResponse* response) override {
    absl::MutexLock lock(&mutex_);
    response->set_instance_id(description_.instance_id());
    for (const auto& update : request->updates()) {
      auto* known = response->add_known();
      known->set_sequence_id(update.sequence_id());
      known->set_known_tokens(Apply(update));
    }
    return Ok(context);
  }
  grpc::ServerUnaryReactor* Propose(grpc::CallbackServerContext* context,
                                    const internal::v1::ProposeRequest* request,
                                    internal::v1::ProposeResponse* response) override {
    absl::MutexLock lock(&mutex_);
    ++proposals_;
    last_request_ = *request;
    if (silent_) return new Silent;
    response->set_instance_id(description_.instance_id());
    response->set_round(request->round());
    for (const auto& row : request->rows()) Answer(row, *response->add_proposals());
    if (spoil_) spoil_(*response);
    return Ok(context);
  }
  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context,
                                    const internal::v1::ReleaseRequest* request,
                                    internal::v1::ReleaseResponse*) override {
    absl::MutexLock lock(&mutex_);
    for (int64_t id : request->sequence_ids()) tokens_.erase(id);
    return Ok(context);
  }

 private:
  class Silent final : public grpc::ServerUnaryReactor {
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
  };

  static grpc::ServerUnaryReactor* Ok(grpc::CallbackServerContext* context) {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  int Apply(const internal::v1::SequenceUpdate& update) {
    auto& tokens = tokens_[update.sequence_id()];
    if (update.from_position() > static_cast<int>(tokens.size())) ++gaps_;
    if (update.from_position() == static_cast<int>(tokens.size())) {
      tokens.insert(tokens.end(), update.token_ids().begin(), update.token_ids().end());
    }
    return static_cast<int>(tokens.size());
  }
  void Answer(const internal::v1::ProposeRow& row, internal::v1::Proposal& proposal) {
    const int known = Apply(row.update());
    const auto& tokens = tokens_[row.update().sequence_id()];
    proposal.set_sequence_id(row.update().sequence_id());
    proposal.set_known_tokens(known);
    proposal.set_base_position(known);
    proposal.set_base_hash(PrefixHash(tokens));
    if (known != row.base_position()) return;
    for (int i = 1; i <= row.num_draft_tokens(); ++i) {
      proposal.add_token_ids((tokens.back() + i) % kVocabSize);
    }
  }

  mutable absl::Mutex mutex_;
  internal::v1::DescribeResponse description_;
  std::function<void(internal::v1::ProposeResponse&)> spoil_;
  bool silent_ = false;
  int proposals_ = 0;
  int gaps_ = 0;
  internal::v1::ProposeRequest last_request_;
  std::map<int64_t, std::vector<TokenId>> tokens_;
  std::string address_;
  std::unique_ptr<GrpcServer> server_;
};

class RemoteProposerTest : public ::testing::Test {
 protected:
  void Connect(const std::string& tokenizer = "digest") {
    proposer_ =
        std::make_unique<RemoteProposer>(DraftLinkOptions{.address = draft_.address(),
                                                          .tokenizer_digest = tokenizer,
                                                          .vocab_size = kVocabSize,
                                                          .probe_interval = absl::Milliseconds(50)},
                                         "target-1", &clock_);
  }
  bool WaitForReason(std::string_view reason) {
    const absl::Time end = absl::Now() + kPatience;
    while (proposer_->disabled_reason() != reason) {
      if (absl::Now() > end) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }
  void ConnectAndBegin() {
    Connect();
    ASSERT_TRUE(WaitForReason(""));
    proposer_->Begin(1, tokens_, static_cast<int>(tokens_.size()), {.seed = 9});
  }
  std::vector<TokenId> Propose(int num_draft_tokens, absl::Duration budget = kBudget) {
    const ProposalRow row{.id = 1,
                          .tokens = tokens_,
                          .hash = PrefixHash(tokens_),
                          .num_draft_tokens = num_draft_tokens};
    auto drafts = proposer_->Propose(absl::MakeConstSpan(&row, 1), budget);
    EXPECT_EQ(drafts.size(), 1u);
    return drafts[0];
  }
  // Asks until drafts come; the draft may have to be told again in between.
  bool SpeculatesAgain() {
    const absl::Time end = absl::Now() + kPatience;
    while (absl::Now() < end) {
      if (!Propose(2).empty()) return true;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return false;
  }

  RealClock clock_;
  FakeDraft draft_;
  std::vector<TokenId> tokens_ = {3, 1, 4};
  std::unique_ptr<RemoteProposer> proposer_;
};

TEST_F(RemoteProposerTest, ProposesWhatTheDraftSays) {
  ConnectAndBegin();
  EXPECT_THAT(Propose(3), ElementsAre(5, 6, 7));
  EXPECT_EQ(proposer_->last_outcome().ok, 1);
}

TEST_F(RemoteProposerTest, TokensAreSentOnce) {
  ConnectAndBegin();
  Propose(2);
  tokens_.push_back(5);
  tokens_.push_back(7);
  EXPECT_THAT(Propose(2), ElementsAre(8, 9));
  const auto update = draft_.last_request().rows(0).update();
  EXPECT_EQ(update.from_position(), 3);
  EXPECT_THAT(update.token_ids(), ElementsAre(5, 7));
}

TEST_F(RemoteProposerTest, BeginTellsThePromptAndReleaseForgetsIt) {
  ConnectAndBegin();
  EXPECT_TRUE(draft_.WaitForTokens(1, 3));
  proposer_->Release(1);
  EXPECT_TRUE(draft_.WaitForRelease(1));
}

TEST_F(RemoteProposerTest, ASequenceTheDraftHasForgottenIsToldAgain) {
  ConnectAndBegin();
  ASSERT_TRUE(draft_.WaitForTokens(1, 3));  // else Begin's call may tell it again by itself
  Propose(2);
  draft_.Forget();
  tokens_.push_back(5);
  EXPECT_THAT(Propose(2), IsEmpty());
  EXPECT_EQ(proposer_->last_outcome().empty, 1);
  EXPECT_THAT(Propose(2), ElementsAre(6, 7));
  EXPECT_EQ(draft_.last_request().rows(0).update().seed(), 9u);
}

TEST_F(RemoteProposerTest, LateProposalsAreDroppedAndRarelyWaitedFor) {
  ConnectAndBegin();
  draft_.SetSilent(true);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Propose(2, absl::Milliseconds(5)), IsEmpty());
    EXPECT_EQ(proposer_->last_outcome().late, 1);
  }
  EXPECT_EQ(proposer_->disabled_reason(), "late");
  const int asked = draft_.proposals();
  EXPECT_THAT(Propose(2), IsEmpty());  // not even asked: returns at once
  EXPECT_EQ(draft_.proposals(), asked);
  draft_.SetSilent(false);
  EXPECT_TRUE(SpeculatesAgain());
}

// Everything a wrong answer may hold; each costs the row its drafts and is counted.
struct Spoiled {
  const char* name;
  std::function<void(internal::v1::ProposeResponse&)> spoil;
  int ProposalOutcome::*counted;
};

TEST_F(RemoteProposerTest, WrongAnswersCostTheRowItsDrafts) {
  const Spoiled cases[] = {
      {"round", [](auto& r) { r.set_round(r.round() - 1); }, &ProposalOutcome::stale},
      {"sequence", [](auto& r) { r.mutable_proposals(0)->set_sequence_id(77); },
       &ProposalOutcome::stale},
      {"position", [](auto& r) { r.mutable_proposals(0)->set_base_position(2); },
       &ProposalOutcome::stale},
      {"hash", [](auto& r) { r.mutable_proposals(0)->set_base_hash(1); }, &ProposalOutcome::stale},
      {"too many", [](auto& r) { r.mutable_proposals(0)->add_token_ids(1); },
       &ProposalOutcome::malformed},
      {"negative id", [](auto& r) { r.mutable_proposals(0)->set_token_ids(0, -1); },
       &ProposalOutcome::malformed},
      {"large id", [](auto& r) { r.mutable_proposals(0)->set_token_ids(0, kVocabSize); },
       &ProposalOutcome::malformed},
      {"missing row", [](auto& r) { r.clear_proposals(); }, &ProposalOutcome::malformed},
      {"extra row", [](auto& r) { r.add_proposals(); }, &ProposalOutcome::malformed},
      {"empty", [](auto& r) { r.mutable_proposals(0)->clear_token_ids(); },
       &ProposalOutcome::empty},
      {"known", [](auto& r) { r.mutable_proposals(0)->set_known_tokens(1 << 30); },
       &ProposalOutcome::ok},
  };
  ConnectAndBegin();
  for (const Spoiled& spoiled : cases) {
    ASSERT_TRUE(WaitForReason("")) << spoiled.name;
    draft_.SetSpoil(spoiled.spoil);
    const std::vector<TokenId> drafts = Propose(2);
    EXPECT_EQ(proposer_->last_outcome().*spoiled.counted, 1) << spoiled.name;
    EXPECT_EQ(drafts.empty(), spoiled.counted != &ProposalOutcome::ok) << spoiled.name;
    draft_.SetSpoil(nullptr);
    EXPECT_TRUE(SpeculatesAgain()) << spoiled.name;
  }
}

// Random edits of a right answer: whatever comes back is either exactly what an honest draft says,
// or at least within the contract: few enough tokens of the vocabulary.
TEST_F(RemoteProposerTest, GarbageNeverLeavesTheContract) {
  ConnectAndBegin();
  std::mt19937 random(7);
  draft_.SetSpoil([&random](internal::v1::ProposeResponse& response) {
    auto& proposal = *response.mutable_proposals(0);
    for (int32_t& id : *proposal.mutable_token_ids()) {
      if (random() % 2 == 0) id = static_cast<int32_t>(random());
    }
    for (size_t extra = random() % 4; extra > 0; --extra) {
      proposal.add_token_ids(static_cast<int32_t>(random()));
    }
    proposal.set_known_tokens(static_cast<int32_t>(random()));
    if (random() % 4 == 0) proposal.set_base_hash(random());
  });
  for (int round = 0; round < 200; ++round) {
    const std::vector<TokenId> drafts = Propose(3);
    EXPECT_LE(drafts.size(), 3u);
    for (TokenId id : drafts) EXPECT_TRUE(id >= 0 && id < kVocabSize);
  }
}

TEST_F(RemoteProposerTest, ARestartedDraftIsToldEverything) {
  ConnectAndBegin();
  EXPECT_THAT(Propose(2), ElementsAre(5, 6));
  const std::string address = draft_.address();
  draft_.Stop();
  EXPECT_THAT(Propose(2), IsEmpty());
  EXPECT_TRUE(WaitForReason("disconnected"));
  EXPECT_THAT(Propose(2), IsEmpty());
  draft_.Start("instance-2", address);
  EXPECT_TRUE(SpeculatesAgain());
  EXPECT_TRUE(draft_.WaitForTokens(1, 3));
  EXPECT_EQ(draft_.gaps(), 0) << "a new instance was asked as if it knew what the old one did";
}

// The process was replaced between two proposals, faster than any probe could see.
TEST_F(RemoteProposerTest, AnotherInstanceAtTheSameAddressIsNotBelieved) {
  ConnectAndBegin();
  draft_.SetSpoil([](internal::v1::ProposeResponse& r) { r.set_instance_id("instance-0"); });
  EXPECT_THAT(Propose(2), IsEmpty());
  EXPECT_EQ(proposer_->last_outcome().stale, 1);
  draft_.SetSpoil(nullptr);
  EXPECT_TRUE(SpeculatesAgain());
}

TEST_F(RemoteProposerTest, WithoutADraftNothingIsWaitedFor) {
  draft_.Stop();
  Connect();
  proposer_->Begin(1, tokens_, 3, {});
  EXPECT_EQ(proposer_->disabled_reason(), "disconnected");
  EXPECT_THAT(Propose(2, absl::InfiniteDuration()), IsEmpty());
  EXPECT_FALSE(proposer_->connected());
}

TEST_F(RemoteProposerTest, AnotherTokenizerTurnsSpeculationOff) {
  Connect("another digest");
  EXPECT_TRUE(WaitForReason("tokenizer_mismatch"));
  proposer_->Begin(1, tokens_, 3, {});
  EXPECT_THAT(Propose(2), IsEmpty());
  EXPECT_EQ(draft_.proposals(), 0);
}

TEST_F(RemoteProposerTest, RowsBeyondTheDraftsContextAreNotSent) {
  draft_.description().set_max_context_tokens(3);
  ConnectAndBegin();
  EXPECT_THAT(Propose(2), IsEmpty());
  EXPECT_EQ(draft_.proposals(), 0);
  EXPECT_EQ(proposer_->last_outcome().empty, 1);
}

TEST(CheckDraftDescription, TheTokenMapMustIncreaseIntoTheVocabulary) {
  const DraftLinkOptions options{.tokenizer_digest = "d", .vocab_size = 5};
  const auto check = [&](std::vector<int> map) {
    internal::v1::DescribeResponse description;
    description.set_tokenizer_digest("d");
    description.set_vocab_size(5);
    description.mutable_token_map()->Add(map.begin(), map.end());
    return std::string(CheckDraftDescription(description, options));
  };
  EXPECT_EQ(check({}), "");
  EXPECT_EQ(check({0, 2, 4}), "");
  EXPECT_EQ(check({0, 2, 2}), "token_map");
  EXPECT_EQ(check({2, 1}), "token_map");
  EXPECT_EQ(check({0, 5}), "token_map");
  EXPECT_EQ(check({-1, 0}), "token_map");
}

TEST(CheckDraftDescription, TheVocabularyMustBeTheTargets) {
  internal::v1::DescribeResponse description;
  description.set_tokenizer_digest("d");
  description.set_vocab_size(4);
  EXPECT_EQ(CheckDraftDescription(description, {.tokenizer_digest = "d", .vocab_size = 5}),
            "vocabulary");
}

TEST(LateBreaker, OpensForASecondAfterThreeOfTen) {
  LateBreaker breaker;
  const absl::Duration now = absl::Seconds(5);
  breaker.Record(true, now);
  breaker.Record(false, now);
  breaker.Record(true, now);
  EXPECT_FALSE(breaker.IsOpen(now));
  breaker.Record(true, now);
  EXPECT_TRUE(breaker.IsOpen(now));
  EXPECT_FALSE(breaker.IsOpen(now + absl::Seconds(1)));
  breaker.Record(true, now + absl::Seconds(1));  // the trial: still late
  EXPECT_TRUE(breaker.IsOpen(now + absl::Seconds(1.5)));
}

TEST(LateBreaker, OldRoundsAreForgotten) {
  LateBreaker breaker;
  for (int i = 0; i < 60; ++i) breaker.Record(i % 5 == 0, absl::ZeroDuration());
  EXPECT_FALSE(breaker.IsOpen(absl::ZeroDuration()));
}

}  // namespace
}  // namespace krait
