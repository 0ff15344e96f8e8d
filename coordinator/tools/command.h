#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/subcommands.h"

namespace krait {

// The subcommands of `krait`: each declares its options and returns what runs (Subcommand).
std::function<int()> DeclareUp(CLI::App& app);
std::function<int()> DeclareGenerate(CLI::App& app);
std::function<int()> DeclareChat(CLI::App& app);
std::function<int()> DeclareStatus(CLI::App& app);
std::function<int()> DeclareDrain(CLI::App& app);
std::function<int()> DeclareBenchServe(CLI::App& app);
// Hand over to the krait-engine beside this binary; run returns only if it cannot be started.
std::function<int()> DeclareInspect(CLI::App& app);
std::function<int()> DeclareConvert(CLI::App& app);
std::function<int()> DeclareBenchDecode(CLI::App& app);

// What `krait ...` does.
int RunKrait(int argc, const char* const* argv);

// 0 if `status` is OK. Otherwise "krait <command>: <message>" on standard error and the exit code
// that fits the status.
int EndCommand(const char* command, const absl::Status& status);

// --coordinator and --address, which are the same.
void AddCoordinatorOption(CLI::App& app, std::string& address);

inline constexpr char kDefaultCoordinator[] = "127.0.0.1:50051";

}  // namespace krait
