// Row kernels and the bfloat16 head product for a CPU, called through ctypes by cpu.py.
// rows.py documents every function; z is [c, w] with row stride ldz, all sums are per row.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace c10 { struct BFloat16; }
namespace at::native::cpublas {
// exported by libtorch_cpu; declared here so that the build needs none of torch's headers
void brgemm(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, bool add,
            const c10::BFloat16* a, const c10::BFloat16* b, float* c, bool vnni);
void brgemm_release(bool vnni);
}

namespace {

constexpr int64_t kBlock = 1024;  // float partial sums this long, double beyond

// exp(x) for x <= 0 to about one ulp; below -87 it stays at exp(-87) = 2e-38
inline float exp_nonpositive(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float n = std::nearbyint(x * 1.44269504088896341f);
  float r = std::fma(n, -0.693359375f, x);
  r = std::fma(n, 2.12194440e-4f, r);
  float p = 1.0f / 5040;
  p = std::fma(p, r, 1.0f / 720);
  p = std::fma(p, r, 1.0f / 120);
  p = std::fma(p, r, 1.0f / 24);
  p = std::fma(p, r, 1.0f / 6);
  p = std::fma(p, r, 0.5f);
  p = std::fma(p, r, 1.0f);
  p = std::fma(p, r, 1.0f);
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return p * scale;
}

inline float tanh_of(float x) {
  const float e = exp_nonpositive(-2.0f * std::fabs(x));
  return std::copysign((1.0f - e) / (1.0f + e), x);
}

// cap = 0 for no softcap
template <bool Cap>
inline float scaled(float z, float cap, float inv_cap, float inv_temperature) {
  return (Cap ? cap * tanh_of(z * inv_cap) : z) * inv_temperature;
}

inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline void store(float* out, float x) { *out = x; }
inline void store(uint16_t* out, float x) { *out = to_bfloat16(x); }

int64_t argmax_of(const float* z, int64_t w) {
  float best = -std::numeric_limits<float>::infinity();
  int64_t best_block = 0;
  for (int64_t start = 0; start < w; start += kBlock) {
    const int64_t stop = start + kBlock < w ? start + kBlock : w;
    float top = z[start];
#pragma omp simd reduction(max : top)
    for (int64_t j = start; j < stop; ++j) top = z[j] > top ? z[j] : top;
    if (top > best) {
      best = top;
      best_block = start;
    }
  }
  int64_t j = best_block;
  while (j < w - 1 && z[j] != best) ++j;
  return j;
}

struct Sums {
  double rest = 0, centred = 0, squares = 0;
};

template <bool Cap, bool Entropy, bool Squares>
void add_range(const float* z, int64_t start, int64_t end, float cap, float inv_cap, float inv_t,
               float peak, Sums& sums) {
  for (; start < end; start += kBlock) {
    const int64_t stop = start + kBlock < end ? start + kBlock : end;
    float rest = 0, centred = 0, squares = 0;
#pragma omp simd reduction(+ : rest, centred, squares)
    for (int64_t j = start; j < stop; ++j) {
      float x = scaled<Cap>(z[j], cap, inv_cap, inv_t) - peak;
      x = x < -87.0f ? -87.0f : x;
      const float e = exp_nonpositive(x);
      rest += e;
      if (Entropy) centred += e * x;
      if (Squares) squares += e * e;
    }
    sums.rest += rest;
    sums.centred += centred;
    sums.squares += squares;
  }
}

template <bool Cap, bool Entropy, bool Squares>
void statistics_of(const float* z, int64_t c, int64_t w, int64_t ldz, const int64_t* targets,
                   const float* inv_t, float cap, float* out, int threads) {
  const float inv_cap = Cap ? 1.0f / cap : 0.0f;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < c; ++i) {
    const float* row = z + i * ldz;
    const int64_t top = argmax_of(row, w);
    const float peak = scaled<Cap>(row[top], cap, inv_cap, inv_t[i]);
    Sums sums;
    add_range<Cap, Entropy, Squares>(row, 0, top, cap, inv_cap, inv_t[i], peak, sums);
    add_range<Cap, Entropy, Squares>(row, top + 1, w, cap, inv_cap, inv_t[i], peak, sums);
    const bool inside = targets[i] >= 0 && targets[i] < w;
    out[0 * c + i] = peak;
    out[1 * c + i] = static_cast<float>(sums.rest);
    out[2 * c + i] = static_cast<float>(sums.centred);
    out[3 * c + i] = static_cast<float>(sums.squares + 1.0);
    out[4 * c + i] = inside ? scaled<Cap>(row[targets[i]], cap, inv_cap, inv_t[i])
                            : -std::numeric_limits<float>::infinity();
  }
}

template <bool Cap>
void kept_mass_of(const float* z, int64_t c, int64_t w, int64_t ldz, const float* inv_t, float cap,
                  const float* peak, const float* offset, float* out, int threads) {
  const float inv_cap = Cap ? 1.0f / cap : 0.0f;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < c; ++i) {
    const float* row = z + i * ldz;
    double kept_sum = 0, dropped_sum = 0;
    for (int64_t start = 0; start < w; start += kBlock) {
      const int64_t stop = start + kBlock < w ? start + kBlock : w;
      float kept = 0, dropped = 0;
#pragma omp simd reduction(+ : kept, dropped)
      for (int64_t j = start; j < stop; ++j) {
        const float x = scaled<Cap>(row[j], cap, inv_cap, inv_t[i]) - peak[i];
        const float e = exp_nonpositive(x);
        kept += x >= offset[i] ? e : 0.0f;
        dropped += x >= offset[i] ? 0.0f : e;
      }
      kept_sum += kept;
      dropped_sum += dropped;
    }
    out[i] = static_cast<float>(kept_sum);
    out[c + i] = static_cast<float>(dropped_sum);
  }
}

struct Row {
  float peak, log_z, a, b, c, d, offset, inv_t, cap, inv_cap;
};

// of the softcap and the temperature
template <bool Cap>
inline float slope(float z, const Row& row) {
  if (!Cap) return row.inv_t;
  const float t = tanh_of(z * row.inv_cap);
  return row.inv_t * (1.0f - t * t);
}

template <bool Cap, bool Entropy, bool Proxy>
inline float derivative(float z, const Row& row) {
  const float s = scaled<Cap>(z, row.cap, row.inv_cap, row.inv_t);
  const float x = s - row.peak;
  float u = x - row.log_z;
  u = u < -87.0f ? -87.0f : u;
  float factor = row.a;
  if (Entropy) factor += row.b * u;
  if (Proxy) factor += x >= row.offset ? row.c : row.d;
  // logits recomputed by another product shape may exceed the peak by rounding: exp takes u <= 0
  const float p = exp_nonpositive(u < 0.0f ? u : 0.0f);
  return p * factor * slope<Cap>(z, row);
}

template <typename Out, bool Cap, bool Entropy, bool Proxy>
void gradient_of(const float* z, int64_t c, int64_t w, int64_t ldz, const int64_t* targets,
                 const float* inv_t, float cap, const float* const* scalars, Out* out, int64_t ldo,
                 int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < c; ++i) {
    const float* from = z + i * ldz;
    Out* to = out + i * ldo;
    const Row row = {scalars[0][i], scalars[1][i], scalars[2][i],
                     Entropy ? scalars[4][i] : 0.0f, Proxy ? scalars[5][i] : 0.0f,
                     Proxy ? scalars[6][i] : 0.0f, Proxy ? scalars[7][i] : 0.0f,
                     inv_t[i], cap, Cap ? 1.0f / cap : 0.0f};
    const int64_t target = targets[i];
    const bool inside = target >= 0 && target < w;
    // read before `to`, which may be the same memory, is written
    const float dz = inside ? scalars[3][i] * slope<Cap>(from[target], row) : 0.0f;
#pragma omp simd
    for (int64_t j = 0; j < w; ++j)
      store(to + j, derivative<Cap, Entropy, Proxy>(from[j], row));
    if (inside) store(to + target, dz);
  }
}

template <typename Out>
void gradient_any(const float* z, int64_t c, int64_t w, int64_t ldz, const int64_t* targets,
                  const float* inv_t, float cap, const float* const* scalars, Out* out,
                  int64_t ldo, int threads) {
  const bool entropy = scalars[4] != nullptr, proxy = scalars[5] != nullptr;
#define RUN(CAP, ENTROPY, PROXY)                                                              \
  return gradient_of<Out, CAP, ENTROPY, PROXY>(z, c, w, ldz, targets, inv_t, cap, scalars, out, \
                                               ldo, threads)
  if (cap > 0) {
    if (entropy && proxy) RUN(true, true, true);
    if (entropy) RUN(true, true, false);
    if (proxy) RUN(true, false, true);
    RUN(true, false, false);
  }
  if (entropy && proxy) RUN(false, true, true);
  if (entropy) RUN(false, true, false);
  if (proxy) RUN(false, false, true);
  RUN(false, false, false);
#undef RUN
}

constexpr int64_t kColumns = 64;  // columns of one packed block of the head
constexpr int64_t kRows = 64;
constexpr int64_t kInnerPairs = 512;
constexpr int64_t kPiece = 4096;  // rows of a packed right operand, a multiple of 2 kInnerPairs

// pairs of consecutive elements of a row side by side, rows of w as contiguous columns
void pack(const uint16_t* w, int64_t width, int64_t d, int64_t ldw, uint32_t* packed) {
  for (int64_t k = 0; k < d / 2; ++k)
    for (int64_t j = 0; j < width; ++j) std::memcpy(&packed[k * kColumns + j], w + j * ldw + 2 * k, 4);
}

// rows 2 pair and 2 pair + 1 of y side by side, in blocks of kColumns; zeros beyond the last row
void pack_pair(const uint16_t* y, int64_t k, int64_t n, int64_t ldy, int64_t pair,
               uint16_t* packed) {
  const int64_t pairs = (k + 1) / 2;
  const uint16_t* first = y + 2 * pair * ldy;
  const bool both = 2 * pair + 1 < k;
  for (int64_t start = 0; start < n; start += kColumns) {
    const int64_t width = start + kColumns < n ? kColumns : n - start;
    uint16_t* to = packed + ((start / kColumns) * pairs + pair) * 2 * kColumns;
    for (int64_t j = 0; j < width; ++j) {
      to[2 * j] = first[start + j];
      to[2 * j + 1] = both ? first[ldy + start + j] : 0;
    }
  }
}

void copy_rows(const uint16_t* x, int64_t rows, int64_t k, int64_t sm, int64_t sk, int64_t padded,
               uint16_t* to) {
  for (int64_t i = 0; i < rows; ++i) to[i * padded + padded - 1] = 0;
  for (int64_t j = 0; j < k; ++j)
    for (int64_t i = 0; i < rows; ++i) to[i * padded + j] = x[i * sm + j * sk];
}

// a block of rows of `total`, over pieces of the inner dimension that stay in cache
void add_rows(const uint16_t* a, int64_t lda, int64_t rows, int64_t pairs, const uint16_t* packed,
              int64_t n, float* total, int64_t ldt) {
  for (int64_t pair = 0; pair < pairs; pair += kInnerPairs) {
    const int64_t some = pair + kInnerPairs < pairs ? kInnerPairs : pairs - pair;
    for (int64_t start = 0; start < n; start += kColumns) {
      const int64_t width = start + kColumns < n ? kColumns : n - start;
      const uint16_t* b = packed + ((start / kColumns) * pairs + pair) * 2 * kColumns;
      at::native::cpublas::brgemm(rows, width, 2 * some, lda, kColumns, ldt, true,
                                  reinterpret_cast<const c10::BFloat16*>(a + 2 * pair),
                                  reinterpret_cast<const c10::BFloat16*>(b), total + start, true);
    }
  }
}

}  // namespace

extern "C" {

int has_bfloat16_products() {
  return __builtin_cpu_supports("avx512bf16") ? 1 : 0;
}

// out: [5, c], the fields of Partials
void statistics(const float* z, int64_t c, int64_t w, int64_t ldz, const int64_t* targets,
                const float* inv_t, float cap, int entropy, int squares, float* out, int threads) {
#define RUN(CAP, ENTROPY, SQUARES) \
  return statistics_of<CAP, ENTROPY, SQUARES>(z, c, w, ldz, targets, inv_t, cap, out, threads)
  if (cap > 0) {
    if (squares) RUN(true, true, true);
    RUN(true, true, false);
  }
  if (squares) RUN(false, true, true);
  if (entropy) RUN(false, true, false);
  RUN(false, false, false);
#undef RUN
}

// out: [2, c], kept and dropped
void kept_mass(const float* z, int64_t c, int64_t w, int64_t ldz, const float* inv_t, float cap,
               const float* peak, const float* offset, float* out, int threads) {
  if (cap > 0) return kept_mass_of<true>(z, c, w, ldz, inv_t, cap, peak, offset, out, threads);
  kept_mass_of<false>(z, c, w, ldz, inv_t, cap, peak, offset, out, threads);
}

// scalars: the fields of RowScalars, null where None; bfloat16: what out holds, else float
void gradient(const float* z, int64_t c, int64_t w, int64_t ldz, const int64_t* targets,
              const float* inv_t, float cap, const float* const* scalars, void* out, int64_t ldo,
              int bfloat16, int threads) {
  if (bfloat16)
    return gradient_any(z, c, w, ldz, targets, inv_t, cap, scalars, static_cast<uint16_t*>(out),
                        ldo, threads);
  gradient_any(z, c, w, ldz, targets, inv_t, cap, scalars, static_cast<float*>(out), ldo, threads);
}

// out[m, n] = h w^T in float, h [m, d] and w [n, d] bfloat16, d even; 1 if torch refuses
int logits(const uint16_t* h, int64_t m, int64_t d, int64_t ldh, const uint16_t* w, int64_t n,
           int64_t ldw, float* out, int64_t ldo, int threads) {
  using at::native::cpublas::brgemm;
  int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
  {
    std::vector<uint32_t> packed(static_cast<size_t>(d / 2 * kColumns));
#pragma omp for schedule(static)
    for (int64_t start = 0; start < n; start += kColumns) {
      const int64_t width = start + kColumns < n ? kColumns : n - start;
      pack(w + start * ldw, width, d, ldw, packed.data());
      const auto* b = reinterpret_cast<const c10::BFloat16*>(packed.data());
      try {
        for (int64_t i = 0; i < m; i += kRows) {
          const int64_t rows = i + kRows < m ? kRows : m - i;
          const auto* a = reinterpret_cast<const c10::BFloat16*>(h + i * ldh);
          brgemm(rows, width, d, ldh, kColumns, ldo, false, a, b, out + i * ldo + start, true);
        }
      } catch (...) {
        failed = 1;
      }
    }
    at::native::cpublas::brgemm_release(true);
  }
  return failed;
}

// total[m, n] += x y in float, x [m, k] bfloat16 with strides sm, sk and y [k, n] with row stride
// ldy, over pieces of k whose packed y stays in cache; 1 if torch refuses
int accumulate(const uint16_t* x, int64_t m, int64_t k, int64_t sm, int64_t sk, const uint16_t* y,
               int64_t n, int64_t ldy, float* total, int64_t ldt, int threads) {
  const int64_t blocks = (n + kColumns - 1) / kColumns;
  const int64_t most = k < kPiece ? (k + 1) / 2 : kPiece / 2;
  std::vector<uint16_t> packed(static_cast<size_t>(blocks * most * 2 * kColumns));
  int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
  {
    std::vector<uint16_t> rows_of_x;
    for (int64_t piece = 0; piece < k; piece += kPiece) {
      const int64_t some = piece + kPiece < k ? kPiece : k - piece, pairs = (some + 1) / 2;
      const bool direct = sk == 1 && some % 2 == 0;
      if (!direct) rows_of_x.resize(static_cast<size_t>(kRows * pairs * 2));
#pragma omp for schedule(static)
      for (int64_t pair = 0; pair < pairs; ++pair)
        pack_pair(y + piece * ldy, some, n, ldy, pair, packed.data());
#pragma omp for schedule(static)
      for (int64_t i = 0; i < m; i += kRows) {
        const int64_t rows = i + kRows < m ? kRows : m - i;
        const uint16_t* a = x + i * sm + piece * sk;
        if (!direct) {
          copy_rows(a, rows, some, sm, sk, pairs * 2, rows_of_x.data());
          a = rows_of_x.data();
        }
        try {
          add_rows(a, direct ? sm : pairs * 2, rows, pairs, packed.data(), n, total + i * ldt, ldt);
        } catch (...) {
          failed = 1;
        }
      }
    }
    at::native::cpublas::brgemm_release(true);
  }
  return failed;
}
}
