#include "worker/sampling/rejection_sampler.h"

#include <cmath>
#include <cstring>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/rejection_uniforms.h"
#include "gtest/gtest.h"
#include "tests/support/chi_square.h"
#include "tests/support/plain_law.h"
#include "worker/comm/in_process_communicator.h"

namespace krait {
namespace {

using testing::Cell;
using testing::ChanceOf;
using testing::Law;

absl::Status OneRank(absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
  std::memcpy(recv.data(), send.data(), send.size());
  return absl::OkStatus();
}

SharedMasses Masses(const std::vector<uint64_t>& by_id) {
  auto masses = std::make_shared<TokenMasses>();
  for (size_t id = 0; id < by_id.size(); ++id) {
    if (by_id[id] > 0) masses->Add(static_cast<TokenId>(id), by_id[id]);
  }
  masses->total = masses->own();
  return masses;
}

// Verifies one draft for a target and a draft of these masses.
std::vector<VerifiedRow> VerifyOne(TokenId draft, const SharedMasses& target,
                                   const SharedMasses& drafted, double accept_uniform,
                                   uint64_t token_bits = 0) {
  std::vector<VerifiedRow> rows(2);
  rows[0] = {.draft = draft,
             .draft_masses = drafted.get(),
             .target_mass = target->MassOf(draft),
             .target_total = target->total,
             .accept_uniform = accept_uniform,
             .token_bits = token_bits};
  rows[1] = {.token_bits = token_bits};
  const auto masses_of = [&](size_t) { return target.get(); };
  EXPECT_TRUE(DrawByRejection(absl::MakeSpan(rows), masses_of, ShardExchange(1, OneRank)).ok());
  return rows;
}

TEST(RejectionSamplerTest, AcceptsBelowTheQuotientOnly) {
  const SharedMasses target = Masses({1, 3}), draft = Masses({2, 2});  // 1/4 against 1/2
  EXPECT_EQ(VerifyOne(0, target, draft, std::nextafter(0.5, 0.0))[0].token, 0);
  EXPECT_EQ(VerifyOne(0, target, draft, 0.5)[0].token, 1);
  EXPECT_EQ(VerifyOne(1, target, draft, 1 - 0x1p-53)[0].token, 1) << "p above q";
}

TEST(RejectionSamplerTest, ATokenTheTargetNeverDrawsIsRefusedWhateverTheUniform) {
  const SharedMasses target = Masses({0, 3}), draft = Masses({4, 0});
  const std::vector<VerifiedRow> rows = VerifyOne(0, target, draft, 0);
  EXPECT_EQ(rows[0].token, 1);
  EXPECT_EQ(rows[1].token, kNoToken) << "nothing follows a refused draft";
}

TEST(RejectionSamplerTest, ARefusedDraftIsReplacedByTokensThatTheDraftGivesTooLittle) {
  const SharedMasses target = Masses({1, 2, 3, 4}), draft = Masses({4, 3, 2, 1});
  // p - q = -3, -1, 1, 3 tenths: ids 2 and 3 at odds of 1 to 3.
  const uint64_t quarter = uint64_t{1} << 62;
  EXPECT_EQ(VerifyOne(0, target, draft, 0.9, 0)[0].token, 2);
  EXPECT_EQ(VerifyOne(0, target, draft, 0.9, quarter - 4096)[0].token, 2);
  EXPECT_EQ(VerifyOne(0, target, draft, 0.9, quarter + 4096)[0].token, 3);
  EXPECT_EQ(VerifyOne(0, target, draft, 0.9, ~uint64_t{0})[0].token, 3);
}

TEST(RejectionSamplerTest, TheLastRowIsTheTargets) {
  const SharedMasses target = Masses({1, 0, 1}), draft = Masses({1, 1, 0});
  EXPECT_EQ(VerifyOne(0, target, draft, 0, 0)[1].token, 0);
  EXPECT_EQ(VerifyOne(0, target, draft, 0, ~uint64_t{0})[1].token, 2);
}

// Rounding may leave nothing of max(p - q, 0) for a draft that was refused.
TEST(RejectionSamplerTest, WithoutAnyResidualTheTargetDraws) {
  const SharedMasses same = Masses({1, 1});
  std::vector<VerifiedRow> rows(2);
  // The row says less than the masses do, so that the draft is refused.
  rows[0] = {.draft = 0, .draft_masses = same.get(), .target_mass = 0, .target_total = 2};
  rows[0].token_bits = ~uint64_t{0};
  const auto masses_of = [&](size_t) { return same.get(); };
  ASSERT_TRUE(DrawByRejection(absl::MakeSpan(rows), masses_of, ShardExchange(1, OneRank)).ok());
  EXPECT_EQ(rows[0].token, 1);
  EXPECT_EQ(rows[1].token, kNoToken);
}

TEST(RejectionSamplerTest, ARowThatIsNotFiniteEndsItsVerificationOnly) {
  const SharedMasses even = Masses({1, 1});
  std::vector<VerifiedRow> rows(5);
  for (const size_t i : {0, 1, 3}) {
    rows[i] = {.draft = 1, .draft_masses = even.get(), .target_mass = 1, .target_total = 2};
  }
  rows[1].finite = false;
  const auto masses_of = [&](size_t) { return even.get(); };
  ASSERT_TRUE(DrawByRejection(absl::MakeSpan(rows), masses_of, ShardExchange(1, OneRank)).ok());
  const std::vector<TokenId> expected = {1, kNoToken, kNoToken, 1, 0};
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i].token, expected[i]) << i;
}

TEST(RejectionUniformsTest, AreOfTheirOwnForEverySeedPositionChoiceAndPurpose) {
  const GumbelKey key{.seed = 7, .position = 9, .choice = 1};
  const GumbelKey others[] = {{.seed = 8, .position = 9, .choice = 1},
                              {.seed = 7 + (uint64_t{1} << 32), .position = 9, .choice = 1},
                              {.seed = 7, .position = 10, .choice = 1},
                              {.seed = 7, .position = 9, .choice = 2}};
  const auto purposes = {UniformPurpose::kPropose, UniformPurpose::kAccept,
                         UniformPurpose::kReplace};
  for (const UniformPurpose purpose : purposes) {
    const uint64_t bits = UniformBits(key, purpose);
    for (const GumbelKey& other : others) EXPECT_NE(UniformBits(other, purpose), bits);
    for (const UniformPurpose other : purposes) {
      EXPECT_EQ(UniformBits(key, other) == bits, other == purpose);
    }
    EXPECT_NE(bits >> 32, GumbelWord(key, 0));
  }
  EXPECT_EQ(UniformOf(0), 0);
  EXPECT_LT(UniformOf(~uint64_t{0}), 1);
  EXPECT_EQ(ScaleBits(~uint64_t{0}, 5), 4u);
}

// ------ The whole way from logits: processors, filters, drafts, judgement.

constexpr int kVocab = 6;
constexpr int kPrompt = 2;

// A model whose logits follow from the last token.
using Table = std::vector<std::vector<float>>;  // [kVocab, kVocab]

Table MakeTable(uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1.5f);
  Table table(kVocab, std::vector<float>(kVocab));
  for (auto& row : table) {
    for (float& l : row) l = normal(random);
  }
  return table;
}

struct Generation {
  SamplingParams params;
  std::vector<TokenId> tokens = {0, 1};  // prompt and output
  std::vector<TokenId> drafts;
  std::vector<SharedMasses> masses;

  TokenId last(size_t num_drafts) const {
    return num_drafts == 0 ? tokens.back() : drafts[num_drafts - 1];
  }
  SampleRow Row(size_t num_drafts) const {
    return {.params = &params,
            .history = tokens,
            .prompt_tokens = kPrompt,
            .drafts = absl::MakeConstSpan(drafts).subspan(0, num_drafts)};
  }
};

// One rank of a target, and the draft beside it.
class Pair {
 public:
  Pair(const Table& target, const Table& draft, int rank, int num_ranks,
       ShardSampler::Gather gather)
      : target_(target),
        draft_(draft),
        shard_{.begin = kVocab * rank / num_ranks, .end = kVocab * (rank + 1) / num_ranks},
        backend_(CreateCpuBackend({})),
        proposing_(backend_.get(), {.begin = 0, .end = kVocab}, 1),
        verifying_(backend_.get(), shard_, num_ranks),
        gather_(gather) {}

  // One round with `k` drafts for each.
  void Round(int k, absl::Span<Generation> generations) {
    for (int i = 0; i < k; ++i) Propose(generations);
    Verify(generations);
  }

 private:
  void AddLogits(const Table& table, const VocabShard& shard, TokenId last) {
    logits_.insert(logits_.end(), table[last].begin() + shard.begin,
                   table[last].begin() + shard.end);
  }
  std::vector<SampledToken> Sample(ShardSampler& sampler, int64_t n, ShardSampler::Gather gather) {
    const int64_t num_rows = static_cast<int64_t>(rows_.size());
    auto drawn =
        sampler.Sample(TensorView(logits_.data(), DType::kF32, {num_rows, n}), rows_, gather);
    CHECK_OK(drawn.status());
    rows_.clear();
    logits_.clear();
    return *std::move(drawn);
  }

  void Propose(absl::Span<Generation> generations) {
    for (Generation& one : generations) {
      rows_.push_back(one.Row(one.drafts.size()));
      rows_.back().rule = DrawRule::kPropose;
      AddLogits(draft_, {.begin = 0, .end = kVocab}, one.last(one.drafts.size()));
    }
    const std::vector<SampledToken> drawn = Sample(proposing_, kVocab, OneRank);
    for (size_t i = 0; i < generations.size(); ++i) {
      generations[i].drafts.push_back(drawn[i].id);
      generations[i].masses.push_back(drawn[i].masses);
    }
  }

  void Verify(absl::Span<Generation> generations) {
    for (Generation& one : generations) {
      for (size_t j = 0; j <= one.drafts.size(); ++j) {
        rows_.push_back(one.Row(j));
        rows_.back().rule = DrawRule::kVerify;
        if (j < one.drafts.size()) {
          rows_.back().draft = one.drafts[j];
          rows_.back().draft_masses = one.masses[j];
        }
        AddLogits(target_, shard_, one.last(j));
      }
    }
    const std::vector<SampledToken> drawn = Sample(verifying_, shard_.size(), gather_);
    auto next = drawn.begin();
    for (Generation& one : generations) {
      const size_t num_drafts = one.drafts.size();
      for (size_t j = 0; j <= num_drafts && next[j].id != kNoToken; ++j) {
        one.tokens.push_back(next[j].id);
      }
      next += num_drafts + 1;
      one.drafts.clear();
      one.masses.clear();
    }
  }

  const Table& target_;
  const Table& draft_;
  const VocabShard shard_;
  const std::unique_ptr<Backend> backend_;
  ShardSampler proposing_, verifying_;
  const ShardSampler::Gather gather_;
  std::vector<float> logits_;
  std::vector<SampleRow> rows_;
};

std::vector<SamplingParams> ParamsOfAllKinds() {
  return {{},
          {.temperature = 0.6f, .top_k = 4},
          {.temperature = 1.4f, .top_p = 0.85f},
          {.top_p = 0.9f, .min_p = 0.12f},
          {.repetition_penalty = 1.4f, .presence_penalty = 0.5f, .frequency_penalty = 0.4f},
          {.top_k = 5, .logit_bias = {{1, 1.5f}, {4, -2.0f}}, .min_tokens = 2, .end_ids = {0, 3}}};
}

// The exact law of the first three output tokens.
std::vector<double> JointLaw(const Table& target, const SamplingParams& params) {
  std::vector<double> joint;
  Generation one{.params = params};
  const auto law_now = [&] { return testing::PlainLaw(target[one.tokens.back()], one.Row(0)); };
  const Law first = law_now();
  for (TokenId a = 0; a < kVocab; ++a) {
    one.tokens.push_back(a);
    const Law second = law_now();
    for (TokenId b = 0; b < kVocab; ++b) {
      one.tokens.push_back(b);
      const Law third = law_now();
      for (TokenId c = 0; c < kVocab; ++c) joint.push_back(first[a] * second[b] * third[c]);
      one.tokens.pop_back();
    }
    one.tokens.pop_back();
  }
  return joint;
}

TEST(RejectionSamplerTest, ThreeTokensHaveTheTargetsJointLawUnderEveryProcessor) {
  constexpr int kSamples = 100'000, kBatch = 1'000, kDrafts = 2;
  const Table target = MakeTable(1), draft = MakeTable(2);
  Pair pair(target, draft, 0, 1, OneRank);
  int kind = 0;
  for (const SamplingParams& params : ParamsOfAllKinds()) {
    std::vector<Cell> cells;
    for (const double p : JointLaw(target, params)) cells.push_back({0, p * kSamples});
    for (int begin = 0; begin < kSamples; begin += kBatch) {
      std::vector<Generation> batch(kBatch);
      for (int i = 0; i < kBatch; ++i) {
        batch[i].params = params;
        batch[i].params.seed = begin + i;
      }
      for (int round = 0; round < 3; ++round) pair.Round(kDrafts, absl::MakeSpan(batch));
      for (const Generation& one : batch) {
        const TokenId* t = one.tokens.data() + kPrompt;
        ++cells[(t[0] * kVocab + t[1]) * kVocab + t[2]].seen;
      }
    }
    EXPECT_GT(ChanceOf(cells), 1e-7) << "kind " << kind++;
  }
}

std::vector<Generation> MixedBatch() {
  std::vector<Generation> batch;
  for (const SamplingParams& params : ParamsOfAllKinds()) {
    for (int seed = 0; seed < 40; ++seed) {
      batch.push_back({.params = params});
      batch.back().params.seed = seed;
      batch.back().params.choice = seed % 3;
    }
  }
  return batch;
}

TEST(RejectionSamplerTest, TokensDoNotDependOnTheNumberOfRanksOrOnTheBatch) {
  const Table target = MakeTable(3), draft = MakeTable(4);
  std::vector<Generation> alone = MixedBatch();
  Pair pair(target, draft, 0, 1, OneRank);
  for (Generation& one : alone) {
    for (int round = 0; round < 4; ++round) pair.Round(3, absl::MakeSpan(&one, 1));
  }
  for (const int num_ranks : {1, 2, 3}) {
    std::vector<std::unique_ptr<Backend>> backends;
    std::vector<Backend*> pointers;
    for (int r = 0; r < num_ranks; ++r) {
      backends.push_back(CreateCpuBackend({.index = r}));
      pointers.push_back(backends.back().get());
    }
    auto comms = CreateInProcessGroup(pointers);
    std::vector<std::vector<Generation>> batches(num_ranks, MixedBatch());
    std::vector<std::thread> threads;
    for (int r = 0; r < num_ranks; ++r) {
      threads.emplace_back([&, r] {
        const auto gather = [&](absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
          return comms[r]->AllGather(send, recv);
        };
        Pair rank(target, draft, r, num_ranks, gather);
        for (int round = 0; round < 4; ++round) rank.Round(3, absl::MakeSpan(batches[r]));
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (int r = 0; r < num_ranks; ++r) {
      for (size_t i = 0; i < alone.size(); ++i) {
        EXPECT_EQ(batches[r][i].tokens, alone[i].tokens) << "ranks=" << num_ranks << " row=" << i;
      }
    }
  }
}

}  // namespace
}  // namespace krait
