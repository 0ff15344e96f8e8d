#include "worker/speculative/remote_proposer.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "worker/speculative/sampling_proto.h"

namespace krait {
namespace {

constexpr absl::Duration kBackgroundTimeout = absl::Seconds(5);  // of Commit and Release

constexpr size_t kMaxCalls = 256;  // under way at a time

std::chrono::system_clock::time_point FromNow(absl::Duration duration) {
  return std::chrono::system_clock::now() + absl::ToChronoMicroseconds(duration);
}

// What the draft may use of the budget; the rest is for the way there and back.
absl::Duration DraftShare(absl::Duration budget) {
  return std::max(budget / 2, budget - absl::Milliseconds(1));
}

}  // namespace

struct RemoteProposer::CommitCall final : PendingCalls::Call {
  internal::v1::CommitRequest request;
  internal::v1::CommitResponse response;
};

struct RemoteProposer::ProposeCall final : PendingCalls::Call {
  internal::v1::ProposeRequest request;
  internal::v1::ProposeResponse response;
};

struct RemoteProposer::ReleaseCall final : PendingCalls::Call {
  internal::v1::ReleaseRequest request;
  internal::v1::ReleaseResponse response;
};

RemoteProposer::RemoteProposer(const DraftLinkOptions& link, std::string target_instance_id,
                               const Clock* clock)
    : vocab_size_(link.vocab_size),
      target_instance_id_(std::move(target_instance_id)),
      clock_(clock),
      link_(link) {}

RemoteProposer::~RemoteProposer() = default;

std::string_view RemoteProposer::disabled_reason() const {
  const std::string_view reason = link_.disabled_reason();
  if (!reason.empty()) return reason;
  return breaker_.IsOpen(clock_->Now()) ? "late" : "";
}

void RemoteProposer::AdoptPeer(const DraftPeer& peer) {
  if (peer.instance_id == instance_id_) return;
  instance_id_ = peer.instance_id;
  breaker_.Reset();
  for (auto& [id, sequence] : sequences_) {
    sequence.known = 0;
    sequence.answered = false;
  }
}

// Forgets calls that are over, and notes what Begin's say the draft knows.
void RemoteProposer::ReapCalls() {
  for (const auto& call : calls_.TakeFinished()) {
    const auto* commit = dynamic_cast<const CommitCall*>(call.get());
    if (commit == nullptr || !commit->status.ok()) continue;  // the next proposal tells it again
    if (commit->response.instance_id() != instance_id_) continue;
    for (const auto& known : commit->response.known()) {
      const auto found = sequences_.find(known.sequence_id());
      if (found == sequences_.end() || found->second.answered) continue;
      found->second.known = known.known_tokens();
    }
  }
}

// `tokens`: all that are committed. Only those that the draft does not have are sent.
void RemoteProposer::FillUpdate(SequenceId id, absl::Span<const TokenId> tokens,
                                const Sequence& sequence,
                                internal::v1::SequenceUpdate& update) const {
  const size_t known = std::clamp<int64_t>(sequence.known, 0, static_cast<int64_t>(tokens.size()));
  update.set_sequence_id(id);
  update.set_from_position(static_cast<int32_t>(known));
  update.mutable_token_ids()->Add(tokens.begin() + known, tokens.end());
  if (known > 0) return;
  *update.mutable_sampling() = ToProto(sequence.sampling);
  update.set_seed(sequence.sampling.seed);
  update.set_choice(sequence.sampling.choice);
  update.mutable_end_token_ids()->Add(sequence.sampling.end_ids.begin(),
                                      sequence.sampling.end_ids.end());
  update.set_prompt_tokens(sequence.prompt_tokens);
}

void RemoteProposer::Begin(SequenceId id, absl::Span<const TokenId> prompt, int prompt_tokens,
                           const SamplingParams& sampling) {
  Sequence& sequence = sequences_[id];
  sequence = {.sampling = sampling, .prompt_tokens = prompt_tokens};
  ReapCalls();
  const auto peer = link_.peer();
  if (peer == nullptr || static_cast<int>(prompt.size()) > peer->max_context_tokens) return;
  if (calls_.size() >= kMaxCalls) return;  // the first proposal will tell it
  auto owned = std::make_unique<CommitCall>();
  CommitCall& call = *owned;
  call.context.set_deadline(FromNow(kBackgroundTimeout));
  call.request.set_target_instance_id(target_instance_id_);
  FillUpdate(id, prompt, sequence, *call.request.add_updates());
  link_.stub()->async()->Commit(&call.context, &call.request, &call.response,
                                calls_.Add(std::move(owned)));
}

void RemoteProposer::Release(SequenceId id) {
  ReapCalls();
  // A release that is lost costs nothing: the draft forgets the sequence when it needs the room.
  if (sequences_.erase(id) == 0 || link_.peer() == nullptr || calls_.size() >= kMaxCalls) return;
  auto owned = std::make_unique<ReleaseCall>();
  ReleaseCall& call = *owned;
  call.context.set_deadline(FromNow(kBackgroundTimeout));
  call.request.set_target_instance_id(target_instance_id_);
  call.request.add_sequence_ids(id);
  link_.stub()->async()->Release(&call.context, &call.request, &call.response,
                                 calls_.Add(std::move(owned)));
}

std::vector<size_t> RemoteProposer::FillRequest(absl::Span<const ProposalRow> rows,
                                                const DraftPeer& peer, absl::Duration budget,
                                                internal::v1::ProposeRequest& request) {
  request.set_target_instance_id(target_instance_id_);
  request.set_round(++round_);
  request.set_budget_us(absl::ToInt64Microseconds(DraftShare(budget)));
  std::vector<size_t> sent;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto found = sequences_.find(rows[i].id);
    const bool fits = static_cast<int>(rows[i].tokens.size()) < peer.max_context_tokens;
    if (found == sequences_.end() || !fits) {
      ++outcome_.empty;
      continue;
    }
    internal::v1::ProposeRow* row = request.add_rows();
    FillUpdate(rows[i].id, rows[i].tokens, found->second, *row->mutable_update());
    row->set_num_draft_tokens(std::min(rows[i].num_draft_tokens, peer.max_draft_tokens));
    row->set_base_position(static_cast<int32_t>(rows[i].tokens.size()));
    row->set_base_hash(rows[i].hash);
    sent.push_back(i);
  }
  return sent;
}

std::vector<std::vector<TokenId>> RemoteProposer::Propose(absl::Span<const ProposalRow> rows,
                                                          absl::Duration budget) {
  const absl::Duration start = clock_->Now();
  outcome_ = {};
  std::vector<std::vector<TokenId>> drafts(rows.size());
  const auto peer = link_.peer();
  if (peer == nullptr || breaker_.IsOpen(start)) {
    outcome_.empty = static_cast<int>(rows.size());
    return drafts;
  }
  AdoptPeer(*peer);
  ReapCalls();
  auto owned = std::make_unique<ProposeCall>();
  ProposeCall* const call = owned.get();
  const std::vector<size_t> sent = FillRequest(rows, *peer, budget, call->request);
  if (sent.empty()) return drafts;
  const int num_sent = static_cast<int>(sent.size());
  call->context.set_deadline(FromNow(budget));
  link_.stub()->async()->Propose(&call->context, &call->request, &call->response,
                                 calls_.Add(std::move(owned)));
  if (!calls_.Wait(*call, start + budget - clock_->Now())) {
    call->context.TryCancel();
    HandleFailure(grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "late"), num_sent);
    return drafts;
  }
  if (!call->status.ok()) {
    HandleFailure(call->status, num_sent);
    return drafts;
  }
  breaker_.Record(/*late=*/false, start);
  const internal::v1::ProposeResponse& response = call->response;
  if (response.instance_id() != instance_id_ || response.round() != round_) {
    outcome_.stale += num_sent;
    link_.ReportLost();  // another process has taken the address: ask who it is
    return drafts;
  }
  if (response.proposals_size() != num_sent) {
    outcome_.malformed += num_sent;
    return drafts;
  }
  for (int i = 0; i < num_sent; ++i) {
    drafts[sent[i]] =
        Judge(rows[sent[i]], call->request.rows(i).num_draft_tokens(), response.proposals(i));
  }
  return drafts;
}

void RemoteProposer::HandleFailure(const grpc::Status& status, int num_rows) {
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    outcome_.late += num_rows;
    breaker_.Record(/*late=*/true, clock_->Now());
    return;
  }
  outcome_.error += num_rows;
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) link_.ReportLost();
}

// The drafts of one row, or nothing and a count of why.
std::vector<TokenId> RemoteProposer::Judge(const ProposalRow& row, int asked,
                                           const internal::v1::Proposal& proposal) {
  if (proposal.sequence_id() != row.id) {
    ++outcome_.stale;
    return {};
  }
  const int num_tokens = static_cast<int>(row.tokens.size());
  Sequence& sequence = sequences_[row.id];
  sequence.known = std::clamp(proposal.known_tokens(), 0, num_tokens);
  sequence.answered = true;
  if (proposal.token_ids().empty()) {
    ++outcome_.empty;
    return {};
  }
  if (proposal.base_position() != num_tokens || proposal.base_hash() != row.hash) {
    ++outcome_.stale;
    return {};
  }
  const auto outside = [this](TokenId id) { return id < 0 || id >= vocab_size_; };
  if (proposal.token_ids_size() > asked ||
      std::any_of(proposal.token_ids().begin(), proposal.token_ids().end(), outside)) {
    ++outcome_.malformed;
    return {};
  }
  ++outcome_.ok;
  return {proposal.token_ids().begin(), proposal.token_ids().end()};
}

}  // namespace krait
