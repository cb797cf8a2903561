// Room in experts: each keeps only so many tokens of a segment, and the rest
// go without it. Expert choice and patch selection are this stage too: every
// column (or every token's best) is a candidate, and each expert keeps those
// with the highest score.
//
// It compares tokens with one another. No gate that decodes uses it.
#ifndef CONCLAVE_KERNELS_GATE_CAPACITY_H_
#define CONCLAVE_KERNELS_GATE_CAPACITY_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gate/gate_config.h"
#include "kernels/gate/routing_plan.h"

namespace conclave::kernels {

// Which tokens share a capacity, and how many they are: padding is in none.
struct Segments {
  std::vector<int32_t> of_token;    // [T]
  std::vector<int32_t> in_segment;  // [T]: how many of its segment come before
  std::vector<int64_t> size;        // [segments]
};

// Of a segment of `num_tokens`, how many each of `num_experts` keeps:
//   capacity.mode=drop  ceil(cf n k / E)               (GShard, MegaBlocks)
//   patch_select        ceil(cf n k / E)               (Union-of-Experts: S/2)
//   expert_choice       max(min_capacity, round(cf n / E)), at most n
int64_t CapacityOf(const GateConfig& config, int64_t num_tokens,
                   int64_t num_experts);

class Capacity {
 public:
  // Removes from `chosen` (sorted by token) what finds no room; the order of
  // the rest stays. priority[i] belongs to chosen[i]. Returns how many went.
  //   kIndex     earlier tokens first
  //   kPriority  higher score first, then earlier tokens
  //   kRandom    by a hash of seed, place in the segment and expert, so that
  //              what stands in other segments has no part in it
  int64_t Keep(const GateConfig& config, CapacityOrder order,
               int64_t num_experts, const Segments& segments, uint64_t seed,
               std::span<const double> priority,
               std::vector<Assignment>* chosen);

 private:
  struct Candidate {
    int32_t segment;
    int32_t expert;
    double key;  // higher first
    int32_t token;
    int32_t index;
  };
  std::vector<Candidate> candidates_;
  std::vector<uint8_t> kept_;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_CAPACITY_H_
