#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/status/status.h"
#include "common/subcommands.h"

namespace krait {

// The subcommands of `krait-engine`: each declares its options and returns what runs (Subcommand).
std::function<int()> DeclareInspect(CLI::App& app);
std::function<int()> DeclareConvert(CLI::App& app);
std::function<int()> DeclareGenerate(CLI::App& app);
std::function<int()> DeclareBenchDecode(CLI::App& app);

// What `krait-engine ...` does.
int RunEngineTool(int argc, const char* const* argv);

// 0 if `status` is OK. Otherwise its message on standard error, and 65 for a bad model, 69 for a
// disk that fails, 70 for the rest.
int EndCommand(const absl::Status& status);

}  // namespace krait
