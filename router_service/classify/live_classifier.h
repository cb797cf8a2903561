// Keeps the newest classifier trained while requests run. Two background
// threads train; readers load one pointer.
//
//   Update -> set made (-> large set: provisional fast tier -> published)
//          -> fast tier trained -> published                  fast thread
//   ...    -> vectors of new samples embedded
//          -> encoder tier -> published                       encoder thread
//
// Two, because an encoder that loads, or does not answer, takes seconds, and a
// category registered meanwhile is recognised at once all the same.
//
// A newer update ends the embedding for an older one; vectors made so far are
// kept. When the encoder fails, the fast tier serves, the reason can be read,
// and every `retry` it is tried again: the worker that embeds may join late.
//
// Threads: all methods may run concurrently; `embed` is called on the encoder
// thread and, by readers, on theirs.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_LIVE_CLASSIFIER_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_LIVE_CLASSIFIER_H_

#include <absl/time/time.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "router_service/classify/classifier.h"
#include "router_service/classify/vector_cache.h"

namespace conclave::router {

class LiveClassifier {
 public:
  using MakeSet = std::function<std::shared_ptr<const TrainingSet>()>;

  // `embed` may be null: no encoder tier, then.
  explicit LiveClassifier(EmbedFn embed,
                          absl::Duration retry = absl::Seconds(2));
  ~LiveClassifier();
  LiveClassifier(const LiveClassifier&) = delete;
  LiveClassifier& operator=(const LiveClassifier&) = delete;

  // Returns at once; `make` runs on the fast thread (sorting 15,000
  // samples is no work for a registry's watcher). A set of the version that is
  // served already changes nothing. Updates that come faster than training
  // are merged: only the newest counts.
  void Update(MakeSet make);

  // Never null; trained on nothing before the first update is through.
  std::shared_ptr<const Classifier> current() const;

  // Waits until the newest update is served by the fast tier, or by every tier
  // there can be. False when the time is up.
  bool WaitForFast(absl::Duration timeout) const;
  bool WaitForAll(absl::Duration timeout) const;

  // The last failure of the encoder while training; empty: none.
  std::string encoder_error() const;
  const VectorCache& vectors() const { return vectors_; }

 private:
  void RunFast();
  void RunEncoder();
  // Both expect and leave mutex_ unlocked.
  void TrainFast(const MakeSet& make, uint64_t ticket);
  void TrainEncoder(std::shared_ptr<const Classifier> fast, uint64_t ticket);
  bool WaitFor(const uint64_t& done, absl::Duration timeout) const;

  const EmbedFn embed_;
  const absl::Duration retry_;
  VectorCache vectors_;
  // std::atomic_load by readers; stored with mutex_ held.
  std::shared_ptr<const Classifier> current_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  MakeSet make_;
  std::shared_ptr<const Classifier> full_;  // the newest not provisional
  std::string encoder_error_;
  // Tickets: the newest update, and how far each tier has come with it.
  uint64_t asked_ = 0;
  uint64_t fast_done_ = 0;     // served, provisionally perhaps
  uint64_t fast_trained_ = 0;  // full_ is its fast tier
  uint64_t all_done_ = 0;
  bool stop_ = false;
  std::thread fast_thread_;  // last: they start when all else is there
  std::thread encoder_thread_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_LIVE_CLASSIFIER_H_
