#pragma once

namespace krait {

// `krait-engine generate`: tokens from token ids, without RPC. argv[0] is the subcommand's name;
// returns the process's exit code.
int RunGenerate(int argc, char** argv);

}  // namespace krait
