// The Llama / Qwen2 / Qwen3 decoder on blocks of lanes. Activations are [feature][lane].
#pragma once
#include <cmath>
#include <vector>

#include "lanes.h"

namespace rlnorm {

struct Spec {
  int32_t vocab, hidden, layers, heads, kv_heads, head_dim, ffn;
  float eps, scale;
};

// weights in tiles of NR outputs, [n / NR][k][NR], so that a tile is contiguous in memory
struct Linear {
  int n = 0, k = 0;
  Floats weight, bias;

  void shape(int outputs, int inputs) {
    n = outputs;
    k = inputs;
    weight = floats(size_t(round_up(n, NR)) * k);
    bias = floats(round_up(n, NR));
  }
  // rows first .. first + rows - 1 come from source [rows][k]
  void fill(int first, int rows, const float* source, const float* source_bias) {
    for (int i = 0; i < rows; i++) {
      const int row = first + i;
      float* out = &weight[size_t(row / NR) * k * NR + row % NR];
      for (int j = 0; j < k; j++) out[size_t(j) * NR] = source[size_t(i) * k + j];
      bias[row] = source_bias ? source_bias[i] : 0.0f;
    }
  }
};

template <int NV, bool ADD>
RLNORM_INLINE void tile(const float* w, const float* bias, int k, const float* x, float* y) {
  vec sum[NR][NV];
#pragma GCC unroll 16
  for (int r = 0; r < NR; r++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) sum[r][v] = splat(bias[r]);
  for (int j = 0; j < k; j++) {
    vec in[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) in[v] = load(x + size_t(j) * LANES + v * VW);
#pragma GCC unroll 16
    for (int r = 0; r < NR; r++)
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) sum[r][v] += w[size_t(j) * NR + r] * in[v];
  }
#pragma GCC unroll 16
  for (int r = 0; r < NR; r++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) {
      float* out = y + size_t(r) * LANES + v * VW;
      store(out, ADD ? load(out) + sum[r][v] : sum[r][v]);
    }
}

// y[n][lane] = bias + W x, or y += bias + W x; y has space for n rounded up to NR
template <bool ADD>
inline void apply(const Linear& l, const float* x, float* y, int vectors) {
  for (int first = 0; first < l.n; first += NR) {
    const float* w = &l.weight[size_t(first) * l.k];
    float* out = y + size_t(first) * LANES;
    int v = 0;
    for (; v + 2 <= vectors; v += 2)
      tile<2, ADD>(w, &l.bias[first], l.k, x + v * VW, out + v * VW);
    if (v < vectors) tile<1, ADD>(w, &l.bias[first], l.k, x + v * VW, out + v * VW);
  }
}

inline void rms_norm(const float* x, const float* w, int n, float eps, float* y, int vectors) {
  for (int v = 0; v < vectors * VW; v += VW) {
    vec square{};
    for (int j = 0; j < n; j++) square += load(x + j * LANES + v) * load(x + j * LANES + v);
    vec inverse = square / float(n) + eps;
    for (int i = 0; i < VW; i++) inverse[i] = 1.0f / std::sqrt(inverse[i]);
    for (int j = 0; j < n; j++) store(y + j * LANES + v, load(x + j * LANES + v) * inverse * w[j]);
  }
}

struct Layer {
  Floats input_norm, q_norm, k_norm, post_norm;
  Linear qkv, output, gate, up, down;
};

constexpr int POINTERS_PER_LAYER = 18;

struct Model {
  Spec s;
  int padded_dim = 0;  // head_dim rounded up to a multiple of VW, in the value cache
  bool has_qk_norm = false;
  std::vector<Layer> layers;
  Floats embedding, final_norm;
  Linear head;

  explicit Model(const Spec& spec) : s(spec), layers(spec.layers) {
    padded_dim = round_up(s.head_dim, VW);
    const int q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    for (Layer& l : layers) {
      l.input_norm = floats(s.hidden);
      l.post_norm = floats(s.hidden);
      l.q_norm = floats(s.head_dim);
      l.k_norm = floats(s.head_dim);
      l.qkv.shape(q + 2 * kv, s.hidden);
      l.output.shape(s.hidden, q);
      l.gate.shape(s.ffn, s.hidden);
      l.up.shape(s.ffn, s.hidden);
      l.down.shape(s.hidden, s.ffn);
    }
    embedding = floats(size_t(s.vocab) * s.hidden);
    final_norm = floats(s.hidden);
    head.shape(s.vocab, s.hidden);
  }

  static void copy(Floats& to, const float* from, size_t count) {
    memcpy(to.get(), from, count * sizeof(float));
  }

  // p: per layer input_norm, (weight, bias) of q k v, q_norm, k_norm, (weight, bias) of o,
  // post_norm, (weight, bias) of gate up down; then embedding, final norm, head; null if absent
  void fill(const float* const* p) {
    const int q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    for (Layer& l : layers) {
      copy(l.input_norm, p[0], s.hidden);
      l.qkv.fill(0, q, p[1], p[2]);
      l.qkv.fill(q, kv, p[3], p[4]);
      l.qkv.fill(q + kv, kv, p[5], p[6]);
      has_qk_norm = p[7] != nullptr;
      if (has_qk_norm) copy(l.q_norm, p[7], s.head_dim), copy(l.k_norm, p[8], s.head_dim);
      l.output.fill(0, s.hidden, p[9], p[10]);
      copy(l.post_norm, p[11], s.hidden);
      l.gate.fill(0, s.ffn, p[12], p[13]);
      l.up.fill(0, s.ffn, p[14], p[15]);
      l.down.fill(0, s.hidden, p[16], p[17]);
      p += POINTERS_PER_LAYER;
    }
    copy(embedding, p[0], size_t(s.vocab) * s.hidden);
    copy(final_norm, p[1], s.hidden);
    head.fill(0, s.vocab, p[2], nullptr);
  }
};

}  // namespace rlnorm
