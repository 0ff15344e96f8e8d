#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/clock.h"
#include "worker/speculative/draft_link.h"
#include "worker/speculative/late_breaker.h"
#include "worker/speculative/pending_calls.h"
#include "worker/speculative/proposer.h"

namespace krait {

// A draft in another process, behind DraftService. A proposal counts only if it comes in time, from
// the instance and for the round that was asked, and continues exactly the tokens that are
// committed here; everything else costs that row its drafts and nothing more. The engine thread
// never waits longer than the budget, and not at all while the draft is lost or keeps being late.
//
// The draft is told of tokens once: a sequence's `known` is what it last said it has, and when it
// has lost them (a restart, an eviction) it says so and gets them again. Engine thread only.
class RemoteProposer final : public Proposer {
 public:
  // `target_instance_id` tells this process's sequences from those of other targets and of its own
  // earlier lives. `clock` outlives this.
  RemoteProposer(const DraftLinkOptions& link, std::string target_instance_id, const Clock* clock);
  ~RemoteProposer() override;

  void Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
             const SamplingParams& sampling) override;
  std::vector<std::vector<TokenId>> Propose(absl::Span<const ProposalRow> rows,
                                            absl::Duration budget) override;
  void Release(SequenceId id) override;

  // Whether a fitting draft is there at this moment. Thread-safe.
  bool connected() const { return link_.disabled_reason().empty(); }

  ProposalOutcome last_outcome() const override { return outcome_; }
  // The link's reason, or "late" for a second after the draft was late too often.
  std::string_view disabled_reason() const override;

 private:
  struct Sequence {
    SamplingParams sampling;
    int prompt_tokens = 0;
    int known = 0;          // tokens the draft has
    bool answered = false;  // `known` is from a proposal: an older acknowledgement does not count
  };
  struct CommitCall;
  struct ProposeCall;
  struct ReleaseCall;

  void AdoptPeer(const DraftPeer& peer);
  void ReapCalls();
  void FillUpdate(SequenceId id, absl::Span<const TokenId> tokens, const Sequence& sequence,
                  internal::v1::SequenceUpdate& update) const;
  std::vector<size_t> FillRequest(absl::Span<const ProposalRow> rows, const DraftPeer& peer,
                                  absl::Duration budget, internal::v1::ProposeRequest& request);
  void HandleFailure(const grpc::Status& status, int num_rows);
  std::vector<TokenId> Judge(const ProposalRow& row, int asked,
                             const internal::v1::Proposal& proposal);

  const int vocab_size_;
  const std::string target_instance_id_;
  const Clock* const clock_;
  DraftLink link_;
  PendingCalls calls_;  // of the link: destroyed before it
  LateBreaker breaker_;
  std::string instance_id_;  // of the peer that `known` is about
  uint64_t round_ = 0;
  absl::flat_hash_map<SequenceId, Sequence> sequences_;
  ProposalOutcome outcome_;
};

}  // namespace krait
