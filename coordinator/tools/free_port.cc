#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "coordinator/tools/cluster_plan.h"

namespace krait {
namespace {

// Binds port 0 and says what it became; -1 if the address is not this machine's.
int BindAndAsk(int family, const sockaddr* address, socklen_t length) {
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  sockaddr_storage bound{};
  socklen_t bound_length = sizeof(bound);
  const bool ok = bind(fd, address, length) == 0 &&
                  getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &bound_length) == 0;
  close(fd);
  if (!ok) return -1;
  return ntohs(family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                  : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
}

}  // namespace

absl::StatusOr<int> PickFreePort(const std::string& host) {
  const std::string name = host == "localhost" ? "127.0.0.1" : host;
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  int port = -1;
  if (inet_pton(AF_INET, name.c_str(), &v4.sin_addr) == 1) {
    port = BindAndAsk(AF_INET, reinterpret_cast<sockaddr*>(&v4), sizeof(v4));
  } else if (inet_pton(AF_INET6, name.c_str(), &v6.sin6_addr) == 1) {
    port = BindAndAsk(AF_INET6, reinterpret_cast<sockaddr*>(&v6), sizeof(v6));
  }
  if (port > 0) return port;
  return absl::UnavailableError(absl::StrCat("cannot listen on ", host, ": give a port"));
}

}  // namespace krait
