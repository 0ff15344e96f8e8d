// What a target tells its draft, from a target that may be broken. An input is commits and
// proposals in turn; what is accepted goes into the draft's table.

#include "common/logging.h"
#include "common/prefix_hash.h"
#include "tests/fuzz/frames.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/server/draft_messages.h"
#include "worker/server/draft_table.h"
#include "worker/speculative/ngram_proposer.h"

namespace krait {
namespace {

constexpr int kMaxSequences = 4;
constexpr int kMaxContext = 64;

internal::v1::DescribeResponse Draft() {
  internal::v1::DescribeResponse draft;
  draft.set_vocab_size(100);
  draft.set_max_draft_tokens(8);
  draft.set_max_sequences(kMaxSequences);
  draft.set_max_context_tokens(kMaxContext);
  return draft;
}

void Apply(const DraftJob& job, DraftTable& table) {
  for (const DraftJob::Row& row : job.rows) {
    CHECK(row.num_draft_tokens >= 0 && row.num_draft_tokens <= 8);
    const DraftSequence* sequence = table.Update(job.target, row.update);
    CHECK_LE(table.size(), kMaxSequences);
    if (sequence == nullptr) continue;
    CHECK_LE(sequence->tokens.size(), static_cast<size_t>(kMaxContext));
    CHECK_EQ(sequence->hash, PrefixHash(sequence->tokens));
  }
}

internal::v1::SequenceUpdate Update(int64_t id, int from, std::vector<int> tokens) {
  internal::v1::SequenceUpdate update;
  update.set_sequence_id(id);
  update.set_from_position(from);
  for (int token : tokens) update.add_token_ids(token);
  update.set_prompt_tokens(2);
  update.set_seed(9);
  update.mutable_sampling()->set_temperature(0);
  return update;
}

}  // namespace

void FuzzOne(std::string_view input) {
  const internal::v1::DescribeResponse draft = Draft();
  NgramProposer proposer;
  DraftTable table(&proposer, kMaxSequences, kMaxContext);
  bool propose = false;
  for (std::string_view frame : SplitFrames(input)) {
    internal::v1::CommitRequest commit;
    internal::v1::ProposeRequest proposal;
    const int size = static_cast<int>(frame.size());
    if (!propose && commit.ParseFromArray(frame.data(), size)) {
      if (const auto job = ParseCommit(commit, draft); job.ok()) Apply(*job, table);
    } else if (propose && proposal.ParseFromArray(frame.data(), size)) {
      const auto job = ParsePropose(proposal, draft, absl::ZeroDuration());
      if (job.ok()) Apply(*job, table);
    }
    propose = !propose;
  }
}

std::vector<std::string> FuzzSeeds() {
  internal::v1::CommitRequest commit;
  commit.set_target_instance_id("target");
  *commit.add_updates() = Update(1, 0, {1, 2, 3});
  *commit.add_updates() = Update(2, 0, {4, 5});
  internal::v1::ProposeRequest propose;
  propose.set_target_instance_id("target");
  propose.set_budget_us(1000);
  auto* row = propose.add_rows();
  *row->mutable_update() = Update(1, 3, {4});
  row->set_num_draft_tokens(4);
  row->set_base_position(4);
  std::string usual;
  AppendFrame(commit.SerializeAsString(), usual);
  AppendFrame(propose.SerializeAsString(), usual);
  *commit.mutable_updates(0) = Update(1, 2, {9, 9});
  AppendFrame(commit.SerializeAsString(), usual);
  *propose.mutable_rows(0)->mutable_update() = Update(INT64_MIN, INT32_MAX, {-1});
  propose.set_budget_us(INT64_MIN);
  std::string hostile;
  AppendFrame(commit.SerializeAsString(), hostile);
  AppendFrame(propose.SerializeAsString(), hostile);
  return {usual, hostile};
}

}  // namespace krait
