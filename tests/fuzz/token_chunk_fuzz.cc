// A worker's stream, from a worker that may be broken: what reaches the client has every position
// once and in order, at most max_tokens of them, and nothing after the finish.

#include "common/logging.h"
#include "coordinator/server/response_assembler.h"
#include "tests/fuzz/frames.h"
#include "tests/fuzz/fuzz_target.h"

namespace krait {
namespace {

constexpr int kMaxTokens = 40;
constexpr int kNumChoices = 2;

const TextModel& Model() {
  static const TextModel& model = *[] {
    Vocabulary vocabulary = Vocabulary::Bytes({"<eos>"});
    vocabulary.eos_ids = {256};
    vocabulary.source = "fuzz";
    return TextModel::Create(std::move(vocabulary)).value().release();
  }();
  return model;
}

PreparedRequest Request() {
  PreparedRequest request;
  request.request_id = "id";
  request.to_worker.add_prompt_token_ids(1);
  request.to_worker.mutable_sampling()->set_max_tokens(kMaxTokens);
  request.to_worker.mutable_sampling()->set_n(kNumChoices);
  request.stops = {"stop", "\n"};
  return request;
}

internal::v1::TokenChunk Chunk(int first_index, std::string_view text) {
  internal::v1::TokenChunk chunk;
  chunk.set_first_index(first_index);
  for (unsigned char byte : text) chunk.add_token_ids(byte);
  return chunk;
}

}  // namespace

void FuzzOne(std::string_view input) {
  auto assembler = ResponseAssembler::Create(Model(), Request());
  CHECK_OK(assembler.status());
  int delivered[kNumChoices] = {};
  for (std::string_view frame : SplitFrames(input)) {
    internal::v1::TokenChunk chunk;
    if (!chunk.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) return;
    const auto response = assembler->Accept(chunk);
    if (!response.ok()) return;
    if (!response->has_value()) continue;
    const int index = (*response)->index();
    CHECK(index >= 0 && index < kNumChoices);
    CHECK_EQ((*response)->first_index(), delivered[index]);
    delivered[index] += (*response)->token_ids_size();
    CHECK_EQ(delivered[index], assembler->num_tokens(index));
    CHECK_LE(delivered[index], kMaxTokens);
    CHECK_EQ((*response)->has_total_usage(), assembler->complete());
    if (assembler->complete()) return;
  }
}

std::vector<std::string> FuzzSeeds() {
  std::string plain;
  AppendFrame(Chunk(0, "he").SerializeAsString(), plain);
  AppendFrame(Chunk(1, "ello").SerializeAsString(), plain);
  internal::v1::TokenChunk last = Chunk(5, "!");
  last.add_token_ids(256);
  last.set_finish_reason(v1::FINISH_REASON_STOP);
  AppendFrame(last.SerializeAsString(), plain);
  internal::v1::TokenChunk second = Chunk(0, "hi");
  second.set_choice(1);
  second.set_finish_reason(v1::FINISH_REASON_LENGTH);
  AppendFrame(second.SerializeAsString(), plain);
  std::string stopped;
  AppendFrame(Chunk(0, "do st").SerializeAsString(), stopped);
  AppendFrame(Chunk(5, "op it").SerializeAsString(), stopped);
  std::string gap;
  AppendFrame(Chunk(3, "x").SerializeAsString(), gap);
  std::string outside;
  internal::v1::TokenChunk strange = Chunk(0, "\xe2\x82");
  strange.add_token_ids(-1);
  strange.add_token_ids(INT32_MAX);
  AppendFrame(strange.SerializeAsString(), outside);
  std::string negative;
  AppendFrame(Chunk(INT32_MIN, "x").SerializeAsString(), negative);
  AppendFrame(Chunk(INT32_MAX, "x").SerializeAsString(), negative);
  return {plain, stopped, gap, outside, negative};
}

}  // namespace krait
