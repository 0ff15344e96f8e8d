#include "common/byte_alphabet.h"

#include <array>

namespace krait {
namespace {

struct Alphabet {
  std::array<std::string, 256> symbols;
  std::array<int16_t, 0x144> bytes;  // by code point, -1: not in the alphabet
};

bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

std::string TwoByteUtf8(int code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | (code_point >> 6)),
          static_cast<char>(0x80 | (code_point & 0x3f))};
}

Alphabet MakeAlphabet() {
  Alphabet alphabet;
  alphabet.bytes.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int code_point = StandsForItself(byte) ? byte : next++;
    alphabet.symbols[static_cast<size_t>(byte)] = TwoByteUtf8(code_point);
    alphabet.bytes[static_cast<size_t>(code_point)] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

const Alphabet& TheAlphabet() {
  static const Alphabet* const alphabet = new Alphabet(MakeAlphabet());
  return *alphabet;
}

}  // namespace

std::string_view ByteSymbol(uint8_t byte) { return TheAlphabet().symbols[byte]; }

std::optional<std::string> DecodeByteSymbols(std::string_view piece) {
  const Alphabet& alphabet = TheAlphabet();
  std::string bytes;
  bytes.reserve(piece.size());
  for (size_t i = 0; i < piece.size(); ++i) {
    const auto lead = static_cast<uint8_t>(piece[i]);
    size_t code_point = lead;
    if (lead >= 0x80) {
      if (lead < 0xc2 || lead > 0xc5 || i + 1 == piece.size()) return std::nullopt;
      const auto next = static_cast<uint8_t>(piece[++i]);
      if ((next & 0xc0) != 0x80) return std::nullopt;
      code_point = static_cast<size_t>((lead & 0x1f) << 6 | (next & 0x3f));
    }
    if (code_point >= alphabet.bytes.size() || alphabet.bytes[code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet.bytes[code_point]));
  }
  return bytes;
}

}  // namespace krait
