// The handle of an answer that comes in pieces, whoever sends them.
#ifndef CONCLAVE_BASE_STREAM_CALL_H_
#define CONCLAVE_BASE_STREAM_CALL_H_

#include <functional>

#include "base/status.h"

namespace conclave {

// What a stream tells, one at a time.
template <typename Event>
struct EventCallbacks {
  std::function<void(const Event& event)> on_event;
  // Once, last; nothing is called afterwards.
  std::function<void(absl::Status status)> on_done;
};

// A running stream. Destroying it cancels it and waits for the end of its
// callbacks, unless it is one of them that destroys it.
class StreamCall {
 public:
  virtual ~StreamCall() = default;
  // May be called at any time, from any thread, also from a callback.
  virtual void Cancel() = 0;
  // Asks for no more events until Resume(); a few may still come. From any
  // thread, also from a callback. A stream that cannot pause ignores both, so
  // the reader's queue needs a bound of its own.
  virtual void Pause() {}
  virtual void Resume() {}
};

// A stream that ended before it began.
class EndedStream final : public StreamCall {
 public:
  void Cancel() override {}
};

}  // namespace conclave

#endif  // CONCLAVE_BASE_STREAM_CALL_H_
