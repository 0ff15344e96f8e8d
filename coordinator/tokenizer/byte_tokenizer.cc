#include "coordinator/tokenizer/byte_tokenizer.h"

#include "common/status_macros.h"

namespace krait {

absl::StatusOr<std::vector<TokenId>> ByteTokenizer::EncodePart(std::string_view text,
                                                               bool allow_special,
                                                               bool /*at_start*/) const {
  std::vector<TokenId> ids;
  const auto encode = [this](std::string_view ordinary, std::vector<TokenId>& out) {
    for (char byte : ordinary) {
      const TokenId id = pieces_.OfByte(static_cast<uint8_t>(byte));
      if (id >= 0) out.push_back(id);
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(pieces_.EncodeAround(text, allow_special, encode, ids));
  return ids;
}

}  // namespace krait
