#pragma once

// One fuzz target is one <name>_fuzz.cc that defines the two functions below. CMake's krait_fuzz
// makes two programs of it: libFuzzer's, in the preset fuzz, and in every other build a short test
// that feeds the seeds and damaged copies of them.

#include <string>
#include <string_view>
#include <vector>

namespace krait {

// Gives `input` to the code under test. Whatever it holds, this returns: a crash, a sanitizer's
// report or a failed CHECK is a finding. Keeps nothing from one call to the next.
void FuzzOne(std::string_view input);

// Inputs to begin from: well-formed ones, and every input that ever found a bug.
std::vector<std::string> FuzzSeeds();

}  // namespace krait
