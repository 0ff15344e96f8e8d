#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "common/grpc_status.h"

namespace krait {

// Serves the unary methods that must be answered however busy a server is: heartbeats and health.
// gRPC 1.51 runs every callback of a process, and reads every connection, on two threads; with ten
// thousand streams an event waits there behind twenty thousand others. A ControlQueue is a
// completion queue with a thread of its own, which reads connections too and runs nothing but the
// handlers given to Serve.
class ControlQueue {
 public:
  // A handler runs on the queue's thread and must not block. The context is the call's.
  template <class Request, class Response>
  using Handler =
      std::function<absl::Status(const grpc::ServerContext&, const Request&, Response&)>;

  // `queue` belongs to the builder of a server that is not built yet.
  explicit ControlQueue(std::unique_ptr<grpc::ServerCompletionQueue> queue);
  // The server, if it was ever started, must have been shut down, and must still exist.
  ~ControlQueue();
  ControlQueue(const ControlQueue&) = delete;

  // Serves `accept`, e.g. &Health::WithAsyncMethod_Check<...>::RequestCheck, until the server shuts
  // down. Once a method, after the server was started.
  template <class Service, class Request, class Response>
  void Serve(Service& service,
             void (Service::*accept)(grpc::ServerContext*, Request*,
                                     grpc::ServerAsyncResponseWriter<Response>*,
                                     grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
             Handler<Request, Response> handler);

 private:
  // What a tag of the queue points to.
  class Event {
   public:
    virtual ~Event() = default;
    virtual void Happen(bool ok) = 0;  // may delete this
  };
  template <class Request, class Response>
  class Call;

  void Run();

  const std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  bool closing_ = false;  // the thread's: nothing new is accepted
  grpc::Alarm close_;
  std::thread thread_;
};

// One call, from before it is there until it has been answered. While it is answered the next one
// is already accepted: a client that does not read its answer keeps nobody else from one.
template <class Request, class Response>
class ControlQueue::Call final : public ControlQueue::Event {
 public:
  using Accept = std::function<void(grpc::ServerContext*, Request*,
                                    grpc::ServerAsyncResponseWriter<Response>*, void*)>;

  Call(ControlQueue& owner, Accept accept, Handler<Request, Response> handler)
      : owner_(owner), accept_(std::move(accept)), handler_(std::move(handler)) {
    accept_(&context_, &request_, &responder_, static_cast<Event*>(this));
  }

 private:
  void Happen(bool ok) override {
    if (answered_ || !ok || owner_.closing_) {
      delete this;
      return;
    }
    answered_ = true;
    new Call(owner_, accept_, handler_);
    Response response;
    const absl::Status status = handler_(context_, request_, response);
    responder_.Finish(response, ToGrpcStatus(status), static_cast<Event*>(this));
  }

  ControlQueue& owner_;
  const Accept accept_;
  const Handler<Request, Response> handler_;
  grpc::ServerContext context_;
  Request request_;
  grpc::ServerAsyncResponseWriter<Response> responder_{&context_};
  bool answered_ = false;
};

template <class Service, class Request, class Response>
void ControlQueue::Serve(Service& service,
                         void (Service::*accept)(grpc::ServerContext*, Request*,
                                                 grpc::ServerAsyncResponseWriter<Response>*,
                                                 grpc::CompletionQueue*,
                                                 grpc::ServerCompletionQueue*, void*),
                         Handler<Request, Response> handler) {
  const auto accept_next = [this, &service, accept](
                               grpc::ServerContext* context, Request* request,
                               grpc::ServerAsyncResponseWriter<Response>* responder, void* tag) {
    (service.*accept)(context, request, responder, queue_.get(), queue_.get(), tag);
  };
  new Call<Request, Response>(*this, accept_next, std::move(handler));
}

}  // namespace krait
