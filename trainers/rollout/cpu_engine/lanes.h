// Vectors over sequences: lane i of every vector belongs to sequence i of a block. Lanes never
// depend on each other, and each performs the same operations in the same order.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace rlnorm {

#if defined(__AVX512F__)
constexpr int VW = 16, NR = 12;
#elif defined(__AVX2__)
constexpr int VW = 8, NR = 6;
#else
constexpr int VW = 4, NR = 8;
#endif
constexpr int LANES = 32;  // sequences (or prompt positions) of one block
constexpr int PAGE = 16;   // positions of one key page

typedef float vec __attribute__((vector_size(VW * 4), may_alias));
typedef int32_t ivec __attribute__((vector_size(VW * 4), may_alias));
typedef double dvec __attribute__((vector_size(VW * 8), may_alias));
typedef int64_t lvec __attribute__((vector_size(VW * 8), may_alias));

#define RLNORM_INLINE static inline __attribute__((always_inline))

RLNORM_INLINE vec load(const float* p) { return *reinterpret_cast<const vec*>(p); }
RLNORM_INLINE void store(float* p, vec v) { *reinterpret_cast<vec*>(p) = v; }
RLNORM_INLINE vec splat(float x) { return vec{} + x; }
RLNORM_INLINE dvec widen(vec v) { return __builtin_convertvector(v, dvec); }

RLNORM_INLINE vec larger(vec a, vec b) { return a > b ? a : b; }

// exp to about one unit in the last place; 0 below -87, near the smallest normal float32
RLNORM_INLINE vec exp_lanes(vec x) {
  const vec low = splat(-87.0f), high = splat(88.0f);
  const ivec is_low = x < low;
  x = x > high ? high : x;
  const vec magic = splat(12582912.0f);  // 1.5 * 2**23: adding it rounds to an integer
  const vec shifted = x * 1.44269504088896341f + magic;
  const vec n = shifted - magic;
  vec r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vec p = splat(1.9875691500e-4f);  // Cephes' polynomial for exp on +-ln(2)/2
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const ivec power = __builtin_convertvector(n, ivec);
  const ivec bits = (power + 127) << 23;
  vec scale;
  memcpy(&scale, &bits, sizeof scale);
  const vec y = p * scale;
  return is_low ? vec{} : (x != x ? x : y);
}

struct Free {
  void operator()(float* p) const { free(p); }
};
using Floats = std::unique_ptr<float[], Free>;

// zeroed, so that padding never holds a NaN
inline Floats floats(size_t count) {
  const size_t bytes = (count * sizeof(float) + 127) / 64 * 64;
  float* p = static_cast<float*>(aligned_alloc(64, bytes));
  if (!p) throw std::bad_alloc();
  memset(p, 0, bytes);
  return Floats(p);
}

inline int round_up(int n, int step) { return (n + step - 1) / step * step; }

}  // namespace rlnorm
