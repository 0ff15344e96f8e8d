#include "worker/models/hugging_face_rope.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr char kScaling[] = "rope_scaling";
constexpr char kParameters[] = "rope_parameters";

// What may stand in the object of a type; the others might change the computation.
absl::Status CheckFields(const HuggingFaceSource& rope, const std::vector<std::string>& known) {
  for (const auto& [name, value] : rope.fields()) {
    if (name == "rope_type" || name == "type" || name == "rope_theta") continue;
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    return rope.Bad(name.c_str(), "unknown field");
  }
  return absl::OkStatus();
}

absl::StatusOr<RopeScaling> ReadLinear(const HuggingFaceSource& rope) {
  RETURN_IF_ERROR(CheckFields(rope, {"factor", "original_max_position_embeddings"}));
  ASSIGN_OR_RETURN(const float factor, rope.Float("factor", kRopeFactorRange));
  return LinearRopeScaling{factor};
}

absl::StatusOr<RopeScaling> ReadLlama3(const HuggingFaceSource& rope) {
  RETURN_IF_ERROR(CheckFields(
      rope, {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}));
  Llama3RopeScaling scaling;
  constexpr FloatRange kFrequencyFactors = {1e-3, 1e6};
  ASSIGN_OR_RETURN(scaling.factor, rope.Float("factor", kRopeFactorRange));
  ASSIGN_OR_RETURN(scaling.low_freq_factor, rope.Float("low_freq_factor", kFrequencyFactors));
  ASSIGN_OR_RETURN(scaling.high_freq_factor, rope.Float("high_freq_factor", kFrequencyFactors));
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    return rope.Bad("high_freq_factor",
                    absl::StrCat(scaling.high_freq_factor, " is not above low_freq_factor, ",
                                 scaling.low_freq_factor));
  }
  ASSIGN_OR_RETURN(scaling.original_max_positions,
                   rope.Int("original_max_position_embeddings", kContextRange));
  return scaling;
}

absl::StatusOr<std::vector<float>> Divisors(const HuggingFaceSource& rope, const char* field,
                                            int64_t count) {
  const JsonValue* list = rope.Find(field);
  if (list == nullptr || !list->is_array() ||
      static_cast<int64_t>(list->as_array().size()) != count) {
    return rope.Bad(field, absl::StrCat("a list of ", count, " numbers wanted"));
  }
  std::vector<float> divisors;
  for (const JsonValue& value : list->as_array()) {
    if (!value.is_number()) return rope.Bad(field, "holds something else than numbers");
    RETURN_IF_ERROR(
        CheckRange(rope.file(), rope.FullName(field), value.as_double(), kRopeDivisorRange));
    divisors.push_back(static_cast<float>(value.as_double()));
  }
  return divisors;
}

absl::StatusOr<RopeScaling> ReadLongRope(const HuggingFaceSource& rope, int64_t head_dim) {
  RETURN_IF_ERROR(CheckFields(rope, {"short_factor", "long_factor", "attention_factor", "factor",
                                     "original_max_position_embeddings"}));
  ASSIGN_OR_RETURN(std::vector<float> divisors, Divisors(rope, "long_factor", head_dim / 2));
  ASSIGN_OR_RETURN(const std::vector<float> others, Divisors(rope, "short_factor", head_dim / 2));
  if (divisors != others) return rope.Bad("long_factor", "must equal short_factor");
  ASSIGN_OR_RETURN(const double attention_factor, rope.Double("attention_factor"));
  if (attention_factor != 1) return rope.Unsupported("attention_factor", "1 is");
  return RopeDivisors{std::move(divisors)};
}

// "type" is what older exporters call it.
absl::StatusOr<std::string> RopeType(const HuggingFaceSource& rope) {
  for (const char* field : {"rope_type", "type"}) {
    if (rope.Has(field)) return rope.String(field);
  }
  return rope.Bad("rope_type", "missing");
}

absl::StatusOr<RopeScaling> ReadScaling(const HuggingFaceSource& source, const char* field,
                                        int64_t head_dim) {
  ASSIGN_OR_RETURN(const HuggingFaceSource rope, source.Object(field));
  ASSIGN_OR_RETURN(const std::string type, RopeType(rope));
  if (type == "default") {
    RETURN_IF_ERROR(CheckFields(rope, {}));
    return RopeScaling();
  }
  if (type == "linear") return ReadLinear(rope);
  if (type == "llama3") return ReadLlama3(rope);
  if (type == "longrope") return ReadLongRope(rope, head_dim);
  return source.Unsupported(field, "\"default\", \"linear\" and \"llama3\" are");
}

absl::StatusOr<float> ReadTheta(const HuggingFaceSource& source) {
  if (!source.Has("rope_theta")) return 10000.0f;
  return source.Float("rope_theta", kRopeThetaRange);
}

}  // namespace

absl::StatusOr<RopeConfig> ReadHuggingFaceRope(const HuggingFaceSource& source, int64_t head_dim,
                                               bool scale) {
  RopeConfig config;
  const bool has_parameters = source.Has(kParameters);
  if (has_parameters && source.Has(kScaling)) {
    return source.Bad(kScaling, "stands beside rope_parameters; one of them wanted");
  }
  if (has_parameters) {
    ASSIGN_OR_RETURN(const HuggingFaceSource parameters, source.Object(kParameters));
    ASSIGN_OR_RETURN(config.theta, parameters.Float("rope_theta", kRopeThetaRange));
  } else {
    ASSIGN_OR_RETURN(config.theta, ReadTheta(source));
  }
  const char* field = has_parameters ? kParameters : kScaling;
  if (scale && source.Has(field)) {
    ASSIGN_OR_RETURN(config.scaling, ReadScaling(source, field, head_dim));
  }
  return config;
}

}  // namespace krait
