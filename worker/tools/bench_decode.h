#pragma once

namespace krait {

// `krait-engine bench decode`: what a decoding step costs, against the read bandwidth of this
// machine measured in the same run. argv[0] is "bench"; returns the process's exit code.
int RunBenchDecode(int argc, char** argv);

}  // namespace krait
