// The processor as engines share it: one team of threads, one step at a time,
// engines taking turns in order of arrival.
//
// Workers spin briefly, then sleep. A task cut into chunks gives the same
// bits for any number of threads: chunks never split a sum.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_COMPUTE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_COMPUTE_H_

#include <cstdint>
#include <functional>
#include <memory>

namespace conclave::engine {

class Compute {
 public:
  // `threads` >= 1 counts the calling thread.
  static std::unique_ptr<Compute> Create(int threads);
  virtual ~Compute() = default;

  virtual int threads() const = 0;

  // Holds the processor for one step; the destructor passes it on, first come
  // first served.
  class Turn {
   public:
    explicit Turn(Compute* compute) : compute_(compute) { compute_->Enter(); }
    ~Turn() { compute_->Leave(); }
    // Lets others go first if any wait: a long step calls it between layers,
    // so that a short one need not wait for its end. Whether any did.
    bool Yield() {
      if (!compute_->Contended()) return false;
      compute_->Leave();
      compute_->Enter();
      return true;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Compute* compute_;
  };

  // Runs body(begin, end) over [0, count) in chunks of `grain` on all
  // threads (a single thread gets the whole at once); returns when all are
  // done. Call only while holding a Turn.
  virtual void ParallelFor(
      int64_t count, int64_t grain,
      const std::function<void(int64_t begin, int64_t end)>& body) = 0;

 protected:
  virtual void Enter() = 0;
  virtual void Leave() = 0;
  // Whether anybody waits for a turn.
  virtual bool Contended() const = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_COMPUTE_H_
