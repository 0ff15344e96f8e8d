#include "common/admin_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "absl/time/clock.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

int Dial(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) text.append(buffer, n);
  ::close(fd);
  return text;
}

std::string Send(int port, const std::string& request) {
  const int fd = Dial(port);
  EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  return ReadAll(fd);
}

std::string Get(int port, const std::string& path) {
  return Send(port, "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
}

AdminEndpoints Endpoints(absl::Status ready) {
  return {.metrics = [] { return std::string("krait_x 1\n"); },
          .live = [] { return absl::OkStatus(); },
          .ready = [ready] { return ready; }};
}

TEST(AdminServer, AnswersTheThreePaths) {
  auto server = AdminServer::Start("127.0.0.1:0", Endpoints(absl::UnavailableError("loading")));
  ASSERT_TRUE(server.ok()) << server.status();
  const int port = (*server)->port();
  EXPECT_EQ((*server)->address(), "127.0.0.1:" + std::to_string(port));
  EXPECT_THAT(Get(port, "/metrics"), HasSubstr("krait_x 1\n"));
  EXPECT_THAT(Get(port, "/livez"), HasSubstr("HTTP/1.1 200"));
  const std::string ready = Get(port, "/readyz");
  EXPECT_THAT(ready, HasSubstr("HTTP/1.1 503"));
  EXPECT_THAT(ready, HasSubstr("loading"));
  EXPECT_THAT(Get(port, "/"), HasSubstr("HTTP/1.1 404"));
  EXPECT_THAT(Send(port, "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
              HasSubstr("HTTP/1.1 405"));
}

TEST(AdminServer, ATakenPortIsAnErrorThatNamesIt) {
  auto first = AdminServer::Start("127.0.0.1:0", Endpoints(absl::OkStatus()));
  ASSERT_TRUE(first.ok());
  const auto second = AdminServer::Start((*first)->address(), Endpoints(absl::OkStatus()));
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(second.status().ToString(), HasSubstr((*first)->address()));
  EXPECT_THAT(second.status().ToString(), HasSubstr("in use"));
}

TEST(AdminServer, AnAddressWithoutAPortIsRefused) {
  EXPECT_EQ(AdminServer::Start("localhost", Endpoints(absl::OkStatus())).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AdminServer, OverlongHeadersEndTheConnection) {
  auto server = AdminServer::Start("127.0.0.1:0", Endpoints(absl::OkStatus()));
  std::string request = "GET /livez HTTP/1.1\r\n";
  for (int i = 0; i < 100; ++i)
    request += "X-" + std::to_string(i) + ": " + std::string(1000, 'a') + "\r\n";
  const int fd = Dial((*server)->port());
  ::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  EXPECT_THAT(ReadAll(fd), ::testing::Not(HasSubstr("200")));
}

// Each idle connection would hold a thread for its 5 s; stopping must not wait for them.
TEST(AdminServer, StopsWhileClientsAreSilent) {
  auto server = AdminServer::Start("127.0.0.1:0", Endpoints(absl::OkStatus()));
  std::vector<int> silent;
  for (int i = 0; i < 80; ++i) silent.push_back(Dial((*server)->port()));
  const absl::Time start = absl::Now();
  server->reset();
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
  for (int fd : silent) ::close(fd);
}

}  // namespace
}  // namespace krait
