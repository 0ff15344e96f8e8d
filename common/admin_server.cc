#include "common/admin_server.h"

#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/address.h"
#include "common/bounded_queue.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

constexpr int kNumThreads = 4;
constexpr size_t kMaxWaiting = 64;
constexpr size_t kMaxRequestBytes = 16 << 10;
constexpr absl::Duration kRequestDeadline = absl::Seconds(5);

// One connection. The library's own stream has a time-out for each read only, so a client that
// sends a byte now and then could hold a thread for hours; this one has a deadline and a byte limit
// for all.
class BoundedStream final : public httplib::Stream {
 public:
  explicit BoundedStream(int fd) : fd_(fd), deadline_(absl::Now() + kRequestDeadline) {}

  bool is_readable() const override { return begin_ < end_ || Wait(POLLIN); }
  bool is_writable() const override { return Wait(POLLOUT); }

  ssize_t read(char* out, size_t size) override {
    if (begin_ == end_ && !Fill()) return -1;
    const size_t n = std::min(size, end_ - begin_);
    std::memcpy(out, buffer_.data() + begin_, n);
    begin_ += n;
    return static_cast<ssize_t>(n);
  }

  ssize_t write(const char* data, size_t size) override {
    if (!Wait(POLLOUT)) return -1;
    return ::send(fd_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void get_remote_ip_and_port(std::string& ip, int& port) const override { ip.clear(), port = 0; }
  void get_local_ip_and_port(std::string& ip, int& port) const override { ip.clear(), port = 0; }
  socket_t socket() const override { return fd_; }

 private:
  bool Wait(short events) const {
    const int64_t left = absl::ToInt64Milliseconds(deadline_ - absl::Now());
    pollfd entry{fd_, events, 0};
    return left > 0 && ::poll(&entry, 1, static_cast<int>(left)) > 0;
  }

  bool Fill() {
    if (total_ >= kMaxRequestBytes || !Wait(POLLIN)) return false;
    const ssize_t n = ::recv(fd_, buffer_.data(), buffer_.size(), 0);
    if (n <= 0) return false;
    begin_ = 0;
    end_ = static_cast<size_t>(n);
    total_ += end_;
    return true;
  }

  const int fd_;
  const absl::Time deadline_;
  std::array<char, 4096> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t total_ = 0;
};

using JobQueue = BoundedQueue<std::function<void()>>;

// A fixed number of threads; when the queue is full the accepting thread waits, and further clients
// wait in the kernel's backlog.
class BoundedTaskQueue final : public httplib::TaskQueue {
 public:
  explicit BoundedTaskQueue(std::shared_ptr<JobQueue> jobs) : jobs_(std::move(jobs)) {
    for (int i = 0; i < kNumThreads; ++i) {
      threads_.emplace_back([this] {
        while (auto job = jobs_->Pop()) (*job)();
      });
    }
  }
  void enqueue(std::function<void()> job) override {
    if (!jobs_->Push(std::move(job))) job();  // closed: the job only closes its connection
  }
  void shutdown() override {
    jobs_->Close();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  const std::shared_ptr<JobQueue> jobs_;
  std::vector<std::thread> threads_;
};

// One request a connection, and every open connection can be cut from outside.
class AdminHttp final : public httplib::Server {
 public:
  void CutConnections() {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    for (int fd : open_) ::shutdown(fd, SHUT_RDWR);
  }

 private:
  bool process_and_close_socket(socket_t fd) override {
    bool served = false;
    if (Register(fd)) {
      BoundedStream stream(fd);
      bool closed = false;
      served = process_request(stream, /*close_connection=*/true, closed, nullptr);
      ::shutdown(fd, SHUT_RDWR);
    }
    absl::MutexLock lock(&mutex_);
    open_.erase(fd);
    ::close(fd);  // under the lock: CutConnections must not meet a reused number
    return served;
  }

  bool Register(int fd) {
    absl::MutexLock lock(&mutex_);
    if (!stopping_) open_.insert(fd);
    return !stopping_;
  }

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<int> open_ ABSL_GUARDED_BY(mutex_);
};

void Reply(const absl::Status& status, httplib::Response& response) {
  response.status = status.ok() ? 200 : 503;
  response.set_content(status.ok() ? "ok\n" : std::string(status.message()) + "\n", "text/plain");
}

// Plain comparisons instead of the library's routes: those match std::regex against what clients
// send.
void Answer(const AdminEndpoints& endpoints, const httplib::Request& request,
            httplib::Response& response) {
  if (request.method != "GET" && request.method != "HEAD") {
    response.status = 405;
  } else if (request.path == "/metrics") {
    response.set_content(endpoints.metrics(), "text/plain; version=0.0.4");
  } else if (request.path == "/livez") {
    Reply(endpoints.live(), response);
  } else if (request.path == "/readyz") {
    Reply(endpoints.ready(), response);
  } else {
    response.status = 404;
    response.set_content("/metrics /livez /readyz\n", "text/plain");
  }
}

// The library's default is SO_REUSEPORT, with which a second server on the port would start as
// well.
void SetSocketOptions(socket_t fd) {
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

}  // namespace

struct AdminServer::Impl {
  std::shared_ptr<JobQueue> jobs = std::make_shared<JobQueue>(kMaxWaiting);
  AdminEndpoints endpoints;
  AdminHttp http;
  std::thread thread;
};

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const std::string& listen,
                                                                AdminEndpoints endpoints) {
  ASSIGN_OR_RETURN(const HostPort where, ParseHostPort(listen));
  auto impl = std::make_unique<Impl>();
  impl->endpoints = std::move(endpoints);
  AdminHttp& http = impl->http;
  http.set_socket_options(SetSocketOptions);
  http.set_payload_max_length(kMaxRequestBytes);
  http.new_task_queue = [jobs = impl->jobs] { return new BoundedTaskQueue(jobs); };
  http.set_pre_routing_handler([raw = impl.get()](const auto& request, auto& response) {
    Answer(raw->endpoints, request, response);
    return httplib::Server::HandlerResponse::Handled;
  });
  errno = 0;
  const int port = where.port == 0                             ? http.bind_to_any_port(where.host)
                   : http.bind_to_port(where.host, where.port) ? where.port
                                                               : -1;
  if (port <= 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", listen, ": ",
                                               errno == 0 ? "unknown host" : strerror(errno)));
  }
  auto server = std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
  server->port_ = port;
  server->address_ = FormatHostPort(where.host, port);
  return server;
}

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([raw = impl_.get()] { raw->http.listen_after_bind(); });
  // stop() does nothing before the accepting thread has come to life.
  while (!impl_->http.is_running()) absl::SleepFor(absl::Milliseconds(1));
}

AdminServer::~AdminServer() {
  impl_->jobs->Close();
  impl_->http.CutConnections();
  impl_->http.stop();
  impl_->thread.join();
}

}  // namespace krait
