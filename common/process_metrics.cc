#include "common/process_metrics.h"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace krait {
namespace {

using prometheus::MetricType;

// The fields of /proc/self/stat from the third on (the second, the command, may hold spaces),
// numbered as in proc(5).
class ProcessStat {
 public:
  ProcessStat() {
    std::ifstream file("/proc/self/stat");
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    const size_t end = text.rfind(')');
    if (end == std::string::npos) return;
    std::istringstream rest(text.substr(end + 1));
    fields_.assign(std::istream_iterator<std::string>(rest), {});
  }

  bool ok() const { return fields_.size() > 22; }
  double Field(size_t number) const { return std::stod(fields_[number - 3]); }

 private:
  std::vector<std::string> fields_;
};

double TicksPerSecond() { return static_cast<double>(sysconf(_SC_CLK_TCK)); }

double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    double seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
  }
  return 0;
}

prometheus::MetricFamily Family(const char* name, const char* help, MetricType type, double value) {
  prometheus::MetricFamily family{name, help, type, {}};
  family.metric.emplace_back();
  family.metric.back().gauge.value = value;
  family.metric.back().counter.value = value;
  return family;
}

double OpenFileDescriptors() {
  std::error_code error;
  std::filesystem::directory_iterator entries("/proc/self/fd", error);
  if (error) return 0;
  return static_cast<double>(std::distance(entries, std::filesystem::directory_iterator()));
}

double MaxFileDescriptors() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

}  // namespace

double ProcessStartTime() {
  const ProcessStat stat;
  return stat.ok() ? BootTime() + stat.Field(22) / TicksPerSecond() : 0;
}

std::vector<prometheus::MetricFamily> CollectProcessMetrics() {
  std::vector<prometheus::MetricFamily> families = {
      Family("process_open_fds", "Open file descriptors.", MetricType::Gauge,
             OpenFileDescriptors()),
      Family("process_max_fds", "Limit of open file descriptors.", MetricType::Gauge,
             MaxFileDescriptors()),
  };
  const struct mallinfo2 heap = mallinfo2();
  families.push_back(
      Family("process_heap_allocated_bytes",
             "What the program holds of the heap: unlike resident memory, back where "
             "it was when everything is freed.",
             MetricType::Gauge, static_cast<double>(heap.uordblks + heap.hblkhd)));
  const ProcessStat stat;
  if (!stat.ok()) return families;
  families.push_back(Family("process_cpu_seconds_total", "User and system CPU time.",
                            MetricType::Counter,
                            (stat.Field(14) + stat.Field(15)) / TicksPerSecond()));
  families.push_back(
      Family("process_threads", "Threads of this process.", MetricType::Gauge, stat.Field(20)));
  families.push_back(Family("process_virtual_memory_bytes", "Virtual memory size.",
                            MetricType::Gauge, stat.Field(23)));
  families.push_back(Family("process_resident_memory_bytes", "Resident memory size.",
                            MetricType::Gauge,
                            stat.Field(24) * static_cast<double>(sysconf(_SC_PAGESIZE))));
  families.push_back(Family("process_start_time_seconds",
                            "When this process started, seconds since the epoch.",
                            MetricType::Gauge, ProcessStartTime()));
  return families;
}

}  // namespace krait
