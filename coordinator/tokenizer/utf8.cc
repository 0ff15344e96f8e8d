#include "coordinator/tokenizer/utf8.h"

#include <cstdint>

namespace krait {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

struct Range {
  uint8_t low, high;
  bool Holds(uint8_t byte) const { return byte >= low && byte <= high; }
};

// The length that a lead byte announces, 0 if it leads nothing.
size_t SequenceLength(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

// Second bytes are narrower after four leads: overlong forms, surrogates, above U+10FFFF.
Range SecondByteRange(uint8_t lead) {
  switch (lead) {
    case 0xe0:
      return {0xa0, 0xbf};
    case 0xed:
      return {0x80, 0x9f};
    case 0xf0:
      return {0x90, 0xbf};
    case 0xf4:
      return {0x80, 0x8f};
    default:
      return {0x80, 0xbf};
  }
}

struct Scan {
  size_t length;  // of the well-formed sequence, or of the maximal part that is not one
  enum { kComplete, kInvalid, kTruncated } state;
};

// Looks at the start of `text`, which is not empty.
Scan ScanSequence(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t length = SequenceLength(lead);
  if (length == 0) return {1, Scan::kInvalid};
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, Scan::kTruncated};
    const Range range = i == 1 ? SecondByteRange(lead) : Range{0x80, 0xbf};
    if (!range.Holds(static_cast<uint8_t>(text[i]))) return {i, Scan::kInvalid};
  }
  return {length, Scan::kComplete};
}

}  // namespace

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Scan scan = ScanSequence(text.substr(at));
    if (scan.state != Scan::kComplete) return at;
    at += scan.length;
  }
  return std::nullopt;
}

size_t CharacterLength(std::string_view text) {
  return SequenceLength(static_cast<uint8_t>(text[0]));
}

void Utf8Sanitizer::Replace(size_t length, std::string& text) const {
  for (size_t i = 0; i < (every_byte_ ? length : 1); ++i) text += kReplacement;
}

void Utf8Sanitizer::Push(std::string_view bytes, std::string& text) {
  std::string joined;
  if (!held_.empty()) {
    joined = std::move(held_) + std::string(bytes);
    held_.clear();
    bytes = joined;
  }
  for (size_t at = 0; at < bytes.size();) {
    const Scan scan = ScanSequence(bytes.substr(at));
    if (scan.state == Scan::kTruncated) {
      held_ = bytes.substr(at);
      return;
    }
    if (scan.state == Scan::kComplete) {
      text += bytes.substr(at, scan.length);
    } else {
      Replace(scan.length, text);
    }
    at += scan.length;
  }
}

void Utf8Sanitizer::Finish(std::string& text) {
  if (!held_.empty()) Replace(held_.size(), text);
  held_.clear();
}

}  // namespace krait
