#include "router_service/classify/live_classifier.h"

#include <utility>

namespace conclave::router {

LiveClassifier::LiveClassifier(EmbedFn embed)
    : embed_(std::move(embed)),
      current_(Classifier::Train(
          std::make_shared<const TrainingSet>(MakeTrainingSet({})))),
      thread_([this] { Run(); }) {}

LiveClassifier::~LiveClassifier() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void LiveClassifier::Update(std::shared_ptr<const TrainingSet> set) {
  {
    std::lock_guard lock(mutex_);
    const bool same = wanted_ != nullptr && wanted_->version == set->version;
    // After a failure of the encoder the same set is worth another try.
    if (same && encoder_error_.empty()) return;
    wanted_ = std::move(set);
    ++asked_;
  }
  changed_.notify_all();
}

std::shared_ptr<const Classifier> LiveClassifier::current() const {
  return std::atomic_load(&current_);
}

void LiveClassifier::Publish(std::shared_ptr<const Classifier> classifier) {
  std::atomic_store(&current_, std::move(classifier));
}

bool LiveClassifier::WaitFor(const uint64_t& done,
                             absl::Duration timeout) const {
  std::unique_lock lock(mutex_);
  const uint64_t ticket = asked_;
  return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                           [&] { return done >= ticket; });
}

bool LiveClassifier::WaitForFast(absl::Duration timeout) const {
  return WaitFor(fast_done_, timeout);
}

bool LiveClassifier::WaitForAll(absl::Duration timeout) const {
  return WaitFor(all_done_, timeout);
}

std::string LiveClassifier::encoder_error() const {
  std::lock_guard lock(mutex_);
  return encoder_error_;
}

void LiveClassifier::TrainEncoder(std::shared_ptr<const Classifier> fast,
                                  uint64_t ticket) {
  const std::vector<std::string>& texts = fast->training_set().texts;
  const auto still_wanted = [&] {
    std::lock_guard lock(mutex_);
    return !stop_ && asked_ == ticket;
  };
  const auto vectors = vectors_.Get(texts, embed_, still_wanted);
  if (vectors.ok() && still_wanted()) {
    Publish(Classifier::WithEncoder(std::move(fast), *vectors));
    vectors_.KeepOnly(texts);
  }
  std::lock_guard lock(mutex_);
  if (vectors.ok()) {
    encoder_error_.clear();
  } else if (vectors.status().code() != absl::StatusCode::kCancelled) {
    encoder_error_ = std::string(Message(vectors.status()));
  }
}

void LiveClassifier::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || all_done_ < asked_; });
    if (stop_) return;
    const uint64_t ticket = asked_;
    const std::shared_ptr<const TrainingSet> set = wanted_;
    lock.unlock();
    // A retry after an encoder failure needs no second fast tier.
    std::shared_ptr<const Classifier> fast = current();
    if (fast->training_set().version != set->version) {
      fast = Classifier::Train(set);
      Publish(fast);
    }
    lock.lock();
    fast_done_ = ticket;
    changed_.notify_all();
    lock.unlock();
    if (embed_ != nullptr && !set->texts.empty()) TrainEncoder(fast, ticket);
    lock.lock();
    all_done_ = ticket;
    changed_.notify_all();
  }
}

}  // namespace conclave::router
