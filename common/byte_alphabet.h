#pragma once

// GPT-2's printable alphabet: byte-level BPE writes every byte as one printable character, so that
// a vocabulary can be stored as text. Bytes that are printable in Latin-1 stand for themselves, the
// other 68 become U+0100, U+0101, ... in order (https://github.com/openai/gpt-2, encoder.py).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace krait {

// `byte` as one character of the alphabet, in UTF-8.
std::string_view ByteSymbol(uint8_t byte);

// The bytes that `piece` spells; nothing if it holds a character outside the alphabet.
std::optional<std::string> DecodeByteSymbols(std::string_view piece);

}  // namespace krait
