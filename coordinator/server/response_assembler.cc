#include "coordinator/server/response_assembler.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {

absl::StatusOr<ResponseAssembler> ResponseAssembler::Create(const TextModel& model,
                                                            const PreparedRequest& request) {
  ResponseAssembler assembler;
  for (int choice = 0; choice < request.num_choices(); ++choice) {
    ASSIGN_OR_RETURN(OutputAssembler output, OutputAssembler::Create(model, request, choice));
    assembler.choices_.push_back({std::move(output)});
  }
  return assembler;
}

absl::StatusOr<std::optional<v1::GenerateResponse>> ResponseAssembler::Accept(
    const internal::v1::TokenChunk& chunk) {
  if (chunk.choice() < 0 || chunk.choice() >= num_choices()) {
    return absl::InternalError(
        absl::StrCat("the worker sent choice ", chunk.choice(), " of ", num_choices()));
  }
  Choice& choice = choices_[chunk.choice()];
  if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) ++num_ended_by_worker_;
  if (choice.finished) return std::nullopt;
  ASSIGN_OR_RETURN(std::optional<v1::GenerateResponse> response, choice.output.Accept(chunk));
  if (!response.has_value() || response->finish_reason() == v1::FINISH_REASON_UNSPECIFIED) {
    return response;
  }
  choice.finished = true;
  ++num_finished_;
  AddUsage(response->usage());
  if (complete()) *response->mutable_total_usage() = total_;
  return response;
}

void ResponseAssembler::AddUsage(const v1::Usage& usage) {
  total_.set_prompt_tokens(usage.prompt_tokens());
  total_.set_completion_tokens(total_.completion_tokens() + usage.completion_tokens());
  const v1::SpeculationUsage& added = usage.speculation();
  v1::SpeculationUsage& sum = *total_.mutable_speculation();
  sum.set_proposed(sum.proposed() + added.proposed());
  sum.set_accepted(sum.accepted() + added.accepted());
  sum.set_rounds(sum.rounds() + added.rounds());
}

int ResponseAssembler::num_tokens() const {
  int sum = 0;
  for (const Choice& choice : choices_) sum += choice.output.num_tokens();
  return sum;
}

int ResponseAssembler::num_duplicates() const {
  int sum = 0;
  for (const Choice& choice : choices_) sum += choice.output.num_duplicates();
  return sum;
}

}  // namespace krait
