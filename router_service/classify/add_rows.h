// Sums of byte rows times 16-bit values: what scoring computes. One function
// for each instruction set; the integers are the same.
//
// The AVX2 file includes nothing that leaves a shared inline function behind:
// the linker keeps one copy of such a function, perhaps the one that an older
// processor cannot run.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_ADD_ROWS_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_ADD_ROWS_H_

#include <cstddef>
#include <cstdint>

namespace conclave::router {

inline constexpr size_t kRowBlock = 16;  // columns

// sums[0..16) += sum over j < 2 * num_pairs of values[j] * rows[j][0..16), from
// column `column` on; two rows at a time, because a multiply-add takes two.
// Nothing overflows: the caller sees to it that no partial sum leaves 32 bits.
using AddRowsFn = void (*)(const int8_t* const* rows, const int16_t* values,
                           size_t num_pairs, size_t column, int32_t* sums);

void AddRowsBaseline(const int8_t* const* rows, const int16_t* values,
                     size_t num_pairs, size_t column, int32_t* sums);
void AddRowsAvx2(const int8_t* const* rows, const int16_t* values,
                 size_t num_pairs, size_t column, int32_t* sums);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_ADD_ROWS_H_
