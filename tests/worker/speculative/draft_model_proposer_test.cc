#include "worker/speculative/draft_model_proposer.h"

#include <unistd.h>

#include <filesystem>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/prefix_hash.h"
#include "common/vocabulary.h"
#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"
#include "tests/support/overflow_model.h"
#include "tests/support/tiny_checkpoint.h"

namespace krait {
namespace {

constexpr int kVocab = 512;

// Every look at it costs `step`: a machine on which each pass takes as long.
class SlowClock final : public Clock {
 public:
  absl::Duration Now() const override { return now_ += step; }
  absl::Duration step = absl::ZeroDuration();

 private:
  mutable absl::Duration now_ = absl::Seconds(1);
};

class DraftModelProposerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new std::string(absl::StrCat(::testing::TempDir(), "krait-draft-", getpid()));
    CHECK_OK(testing::WriteTinyFolder(testing::MakeTinyModel(), *dir_));
  }
  static void TearDownTestSuite() {
    std::filesystem::remove_all(*dir_);
    delete dir_;
  }

  static DraftModelOptions Options() {
    DraftModelOptions options{.model_path = *dir_, .max_sequences = 3};
    options.runner.weight_dtype = DType::kF32;
    options.runner.num_pages = 60;
    return options;
  }
  std::unique_ptr<DraftModelProposer> Make(const DraftModelOptions& options = Options()) {
    auto proposer = DraftModelProposer::Create(options, &clock_);
    EXPECT_TRUE(proposer.ok()) << proposer.status();
    return *std::move(proposer);
  }

  static std::vector<TokenId> Prompt(int length, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<TokenId> prompt(length);
    for (TokenId& id : prompt) id = random() % kVocab;
    return prompt;
  }
  static std::vector<TokenId> Propose(DraftModelProposer& proposer, SequenceId id,
                                      const std::vector<TokenId>& tokens, int count,
                                      absl::Duration budget = absl::InfiniteDuration()) {
    const ProposalRow row{id, tokens, PrefixHash(tokens), count};
    return proposer.Propose({&row, 1}, budget)[0];
  }

  static std::string* dir_;
  SlowClock clock_;
  SamplingParams sampling_{.temperature = 1, .seed = 5};
};

std::string* DraftModelProposerTest::dir_ = nullptr;

// What it drafts is a function of the tokens, wherever its cursor stood before.
TEST_F(DraftModelProposerTest, DraftsDoNotDependOnWhatWasDraftedBefore) {
  std::vector<TokenId> tokens = Prompt(40, 1);
  auto walker = Make();
  walker->Begin(1, tokens, 40, sampling_);
  std::mt19937 random(2);
  for (int round = 0; round < 30; ++round) {
    auto fresh = Make();
    fresh->Begin(1, tokens, 40, sampling_);
    const std::vector<TokenId> drafts = Propose(*walker, 1, tokens, 5);
    ASSERT_EQ(drafts.size(), 5u);
    ASSERT_EQ(drafts, Propose(*fresh, 1, tokens, 5)) << "round=" << round;
    const size_t accepted = random() % 6;
    tokens.insert(tokens.end(), drafts.begin(), drafts.begin() + std::min<size_t>(accepted, 5));
    // Rounds without drafts may lie between two calls.
    for (int n = 1 + random() % 3; n > 0; --n) tokens.push_back(random() % kVocab);
  }
}

// Rows that want different numbers of drafts, some right, one that the host draws now and then.
TEST_F(DraftModelProposerTest, ChainedPassesDraftTheSame) {
  clock_.step = absl::Milliseconds(1);
  DraftModelOptions options = Options();
  options.chains = true;
  auto chained = Make(options), plain = Make();
  SamplingParams filtered = sampling_;
  filtered.top_k = 20;
  std::vector<std::vector<TokenId>> tokens;
  for (SequenceId id = 0; id < 3; ++id) {
    tokens.push_back(Prompt(20 + 7 * static_cast<int>(id), static_cast<uint32_t>(id)));
    for (auto* each : {chained.get(), plain.get()}) {
      each->Begin(id, tokens[id], static_cast<int>(tokens[id].size()),
                  id == 2 ? filtered : sampling_);
    }
  }
  std::mt19937 random(2);
  for (int round = 0; round < 40; ++round) {
    std::vector<ProposalRow> rows;
    for (SequenceId id = 0; id < (round % 4 == 0 ? 3 : 2); ++id) {
      rows.push_back({id, tokens[id], PrefixHash(tokens[id]), static_cast<int>(random() % 9)});
    }
    const auto drafts = chained->Propose(rows, absl::InfiniteDuration());
    ASSERT_EQ(drafts, plain->Propose(rows, absl::InfiniteDuration())) << "round=" << round;
    for (size_t i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(static_cast<int>(drafts[i].size()), rows[i].num_draft_tokens);
      const size_t accepted = random() % (drafts[i].size() + 1);
      std::vector<TokenId>& known = tokens[rows[i].id];
      known.insert(known.end(), drafts[i].begin(), drafts[i].begin() + accepted);
      known.push_back(random() % kVocab);
    }
  }
  EXPECT_GT(chained->num_chained_passes(), 50);
  EXPECT_EQ(plain->num_chained_passes(), 0);
}

TEST_F(DraftModelProposerTest, ARowWhoseDraftIsNotFiniteGetsNoneAndItsNeighbourAll) {
  constexpr TokenId kOverflow = 77;
  testing::TinyModel model = testing::MakeTinyModel();
  testing::PlantOverflow(kOverflow, model);
  DraftModelOptions options = Options();
  options.model_path = *dir_ + "/overflow";
  CHECK_OK(testing::WriteTinyFolder(model, options.model_path));
  std::vector<TokenId> good = Prompt(30, 7), bad = Prompt(30, 8);
  std::replace(good.begin(), good.end(), kOverflow, TokenId{3});
  bad[20] = kOverflow;
  auto alone = Make(options);
  alone->Begin(1, good, 30, sampling_);
  const std::vector<TokenId> expected = Propose(*alone, 1, good, 5);
  ASSERT_EQ(expected.size(), 5u);
  clock_.step = absl::Milliseconds(1);
  for (const bool chains : {false, true}) {
    options.chains = chains;
    auto proposer = Make(options);
    proposer->Begin(1, bad, 30, sampling_);
    proposer->Begin(2, good, 30, sampling_);
    const ProposalRow rows[] = {{1, bad, PrefixHash(bad), 5}, {2, good, PrefixHash(good), 5}};
    for (int round = 0; round < 3; ++round) {
      const auto drafts = proposer->Propose(rows, absl::InfiniteDuration());
      EXPECT_TRUE(drafts[0].empty()) << round;
      EXPECT_EQ(drafts[1], expected) << round;
      EXPECT_EQ(proposer->last_outcome().ok, 1);
    }
    EXPECT_EQ(proposer->num_chained_passes() > 0, chains);
  }
}

TEST_F(DraftModelProposerTest, ChunkedCatchUpDraftsTheSame) {
  const std::vector<TokenId> tokens = Prompt(150, 3);
  auto whole = Make();
  whole->Begin(1, tokens, 150, sampling_);
  DraftModelOptions options = Options();
  options.runner.max_tokens = 7;
  auto chunked = Make(options);
  chunked->Begin(1, tokens, 150, sampling_);
  EXPECT_EQ(Propose(*chunked, 1, tokens, 4), Propose(*whole, 1, tokens, 4));
}

// A budget too short for a pass: every call gets on, and in the end drafts come.
TEST_F(DraftModelProposerTest, AShortBudgetStillAdvances) {
  const std::vector<TokenId> tokens = Prompt(100, 4);
  auto proposer = Make();
  proposer->Begin(1, tokens, 100, sampling_);
  clock_.step = absl::Milliseconds(10);
  int calls = 0;
  std::vector<TokenId> drafts;
  while (drafts.empty() && ++calls < 50) {
    drafts = Propose(*proposer, 1, tokens, 4, absl::Milliseconds(1));
    EXPECT_EQ(proposer->last_outcome().late, drafts.empty() ? 1 : 0);
  }
  EXPECT_GT(calls, 2);
  EXPECT_LE(calls, 12);
  clock_.step = absl::ZeroDuration();
  const std::vector<TokenId> all = Propose(*proposer, 1, tokens, 4);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_TRUE(std::equal(drafts.begin(), drafts.end(), all.begin()))
      << "fewer, but the same: what there was when the time was up";
}

TEST_F(DraftModelProposerTest, TheOldestSequenceMakesRoom) {
  auto proposer = Make();
  for (SequenceId id = 1; id <= 6; ++id) {
    const std::vector<TokenId> tokens = Prompt(30, id);
    proposer->Begin(id, tokens, 30, sampling_);
    EXPECT_EQ(Propose(*proposer, id, tokens, 3).size(), 3u);
    EXPECT_LE(proposer->num_cached(), 3);
  }
  // Pushed out, it begins again and drafts as before.
  auto fresh = Make();
  const std::vector<TokenId> tokens = Prompt(30, 1);
  fresh->Begin(1, tokens, 30, sampling_);
  EXPECT_EQ(Propose(*proposer, 1, tokens, 3), Propose(*fresh, 1, tokens, 3));
  for (SequenceId id = 1; id <= 6; ++id) proposer->Release(id);
  EXPECT_EQ(proposer->cache().num_free_pages(), 60);
}

TEST_F(DraftModelProposerTest, PagesThatRunOutPushOutTheOldest) {
  DraftModelOptions options = Options();
  options.runner.num_pages = 10;  // 160 tokens
  auto proposer = Make(options);
  for (SequenceId id = 1; id <= 4; ++id) {
    const std::vector<TokenId> tokens = Prompt(90, id);
    proposer->Begin(id, tokens, 90, sampling_);
    EXPECT_EQ(Propose(*proposer, id, tokens, 2).size(), 2u);
    EXPECT_EQ(proposer->num_cached(), 1);
  }
}

TEST_F(DraftModelProposerTest, UnknownAndOverlongSequencesGetNothing) {
  auto proposer = Make();
  EXPECT_TRUE(Propose(*proposer, 9, Prompt(5, 1), 3).empty());
  EXPECT_EQ(proposer->last_outcome().empty, 1);
  const std::vector<TokenId> tokens = Prompt(961, 1);  // 60 pages are 960 positions
  proposer->Begin(1, tokens, 961, sampling_);
  EXPECT_TRUE(Propose(*proposer, 1, tokens, 3).empty());
  const std::vector<TokenId> shorter(tokens.begin(), tokens.begin() + 959);
  EXPECT_EQ(Propose(*proposer, 1, shorter, 3).size(), 2u) << "as far as the context goes";
}

TEST_F(DraftModelProposerTest, ARowThatWantsNoDraftsIsCaughtUpWith) {
  auto proposer = Make();
  const std::vector<TokenId> tokens = Prompt(50, 8);
  proposer->Begin(1, tokens, 50, sampling_);
  EXPECT_TRUE(Propose(*proposer, 1, tokens, 0).empty());
  EXPECT_EQ(proposer->num_cached(), 1);
  clock_.step = absl::Milliseconds(10);
  EXPECT_FALSE(Propose(*proposer, 1, tokens, 1, absl::Milliseconds(1)).empty())
      << "one pass is enough now";
}

TEST_F(DraftModelProposerTest, ADraftForAnotherTokenizerIsDisabled) {
  DraftModelOptions options = Options();
  options.tokenizer_digest = std::string(64, '0');
  auto proposer = Make(options);
  EXPECT_EQ(proposer->disabled_reason(), "tokenizer_mismatch");
  const std::vector<TokenId> tokens = Prompt(5, 1);
  proposer->Begin(1, tokens, 5, sampling_);
  EXPECT_TRUE(Propose(*proposer, 1, tokens, 3).empty());
  proposer->Release(1);

  options.tokenizer_digest = Vocabulary::Load(*dir_)->Digest();
  EXPECT_EQ(Make(options)->disabled_reason(), "");
  options.vocab_size = kVocab + 1;
  EXPECT_EQ(Make(options)->disabled_reason(), "token_map");
}

}  // namespace
}  // namespace krait
