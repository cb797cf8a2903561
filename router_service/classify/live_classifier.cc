#include "router_service/classify/live_classifier.h"

#include <utility>

namespace conclave::router {
namespace {

// Samples times categories that train within about 100 ms: above it a
// provisional classifier goes first.
constexpr size_t kQuickWork = 60'000;

}  // namespace

LiveClassifier::LiveClassifier(EmbedFn embed, absl::Duration retry)
    : embed_(std::move(embed)),
      retry_(retry),
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

void LiveClassifier::Update(MakeSet make) {
  {
    std::lock_guard lock(mutex_);
    make_ = std::move(make);
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

void LiveClassifier::TrainFast(const MakeSet& make, uint64_t ticket) {
  const std::shared_ptr<const TrainingSet> set = make();
  const std::shared_ptr<const Classifier> previous = full_;
  if (previous != nullptr &&
      previous->training_set().version == set->version) {
    Publish(previous);
    return;
  }
  const size_t work = set->texts.size() * set->categories.size();
  if (work > kQuickWork && previous != nullptr) {
    auto provisional = Classifier::Extend(*previous, set);
    if (provisional != nullptr) {
      Publish(std::move(provisional));
      std::lock_guard lock(mutex_);
      fast_done_ = ticket;
      changed_.notify_all();
    }
  }
  full_ = Classifier::Train(set);
  Publish(full_);
}

void LiveClassifier::TrainEncoder(uint64_t ticket) {
  const std::shared_ptr<const Classifier> fast = current();
  const std::vector<std::string>& texts = fast->training_set().texts;
  if (embed_ == nullptr || texts.empty() || fast->has_encoder()) return;
  const auto still_wanted = [&] {
    std::lock_guard lock(mutex_);
    return !stop_ && asked_ == ticket;
  };
  const auto vectors = vectors_.Get(texts, embed_, still_wanted);
  if (vectors.ok() && still_wanted()) {
    full_ = Classifier::WithEncoder(fast, *vectors);
    Publish(full_);
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
    const auto has_news = [this] { return stop_ || all_done_ < asked_; };
    if (encoder_error_.empty()) {
      changed_.wait(lock, has_news);
    } else {
      changed_.wait_for(lock, absl::ToChronoNanoseconds(retry_), has_news);
    }
    if (stop_) return;
    const uint64_t ticket = asked_;
    const MakeSet make = make_;
    lock.unlock();
    if (make != nullptr) TrainFast(make, ticket);
    lock.lock();
    fast_done_ = ticket;
    changed_.notify_all();
    lock.unlock();
    TrainEncoder(ticket);
    lock.lock();
    all_done_ = ticket;
    changed_.notify_all();
  }
}

}  // namespace conclave::router
