// One step of up to LANES tokens through the model, each with its key-value cache and position.
// A step may mix the next tokens of several sequences with consecutive tokens of prompts.
#pragma once
#include <algorithm>

#include "model.h"

namespace rlnorm {

// keys [layer][kv head][page][dim][PAGE], values [layer][kv head][position][padded dim]
struct Cache {
  int capacity = 0;
  Floats keys, values;

  void room(const Model& m, int positions) {
    const int wanted = round_up(positions, PAGE);
    if (wanted <= capacity) return;
    const size_t heads = size_t(m.s.layers) * m.s.kv_heads;
    keys = floats(heads * wanted * m.s.head_dim);
    values = floats(heads * wanted * m.padded_dim);
    capacity = wanted;
  }
  float* key_head(const Model& m, int layer, int head) const {
    return &keys[(size_t(layer) * m.s.kv_heads + head) * capacity * m.s.head_dim];
  }
  float* value_head(const Model& m, int layer, int head) const {
    return &values[(size_t(layer) * m.s.kv_heads + head) * capacity * m.padded_dim];
  }
  // copies the first positions of another sequence: the shared prompt
  void copy(const Model& m, const Cache& from, int positions) {
    const size_t padded = round_up(positions, PAGE);
    for (int layer = 0; layer < m.s.layers; layer++)
      for (int head = 0; head < m.s.kv_heads; head++) {
        memcpy(key_head(m, layer, head), from.key_head(m, layer, head),
               padded * m.s.head_dim * sizeof(float));
        memcpy(value_head(m, layer, head), from.value_head(m, layer, head),
               size_t(positions) * m.padded_dim * sizeof(float));
      }
  }
};

struct Lane {
  int32_t token, position;
  Cache* cache;
};

// scores of G queries [G][dim] with PAGES pages of keys, written to s with one row per query
template <int G, int PAGES>
RLNORM_INLINE void score_pages(const float* q, const float* keys, int dim, float* s, int row) {
  constexpr int PV = PAGE / VW;
  vec sum[G][PAGES * PV] = {};
  for (int d = 0; d < dim; d++)
#pragma GCC unroll 4
    for (int p = 0; p < PAGES * PV; p++) {
      const vec key = load(keys + (size_t(p / PV) * dim + d) * PAGE + p % PV * VW);
#pragma GCC unroll 4
      for (int g = 0; g < G; g++) sum[g][p] += q[g * dim + d] * key;
    }
#pragma GCC unroll 4
  for (int g = 0; g < G; g++)
#pragma GCC unroll 4
    for (int p = 0; p < PAGES * PV; p++) store(s + size_t(g) * row + p * VW, sum[g][p]);
}

// softmax numerators in place over the first `length` of `padded` scores; returns their sum
inline float softmax_row(float* s, int length, int padded, float scale) {
  for (int p = length; p < padded; p++) s[p] = -1e30f;
  vec top = splat(-1e30f);
  for (int p = 0; p < padded; p += VW) top = larger(top, load(s + p));
  float most = top[0];
  for (int i = 1; i < VW; i++) most = top[i] > most ? top[i] : most;
  vec sum{};
  for (int p = 0; p < padded; p += VW) {
    const vec e = exp_lanes((load(s + p) - most) * scale);
    store(s + p, e);
    sum += e;
  }
  float total = 0;
  for (int i = 0; i < VW; i++) total += sum[i];
  return total;
}

template <int G, int NV>
RLNORM_INLINE void mix_values(const float* s, int row, const float* values, int padded_dim,
                              int length, const float* inverse, float* out, int out_row) {
  vec sum[G][NV] = {};
  for (int p = 0; p < length; p++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) {
      const vec value = load(values + size_t(p) * padded_dim + v * VW);
#pragma GCC unroll 4
      for (int g = 0; g < G; g++) sum[g][v] += s[size_t(g) * row + p] * value;
    }
  for (int g = 0; g < G; g++)
    for (int v = 0; v < NV; v++) store(out + g * out_row + v * VW, sum[g][v] * inverse[g]);
}

// attention of G heads that share keys and values; out rows have padded_dim floats
template <int G>
inline void attend(const Model& m, const float* q, const float* keys, const float* values,
                   int length, float* s, int row, float* out) {
  const int dim = m.s.head_dim, padded = round_up(length, PAGE);
  constexpr int PAGES = VW == PAGE ? 2 : 1;
  int page = 0;
  for (; page + PAGES <= padded / PAGE; page += PAGES)
    score_pages<G, PAGES>(q, keys + size_t(page) * dim * PAGE, dim, s + page * PAGE, row);
  for (; page < padded / PAGE; page++)
    score_pages<G, 1>(q, keys + size_t(page) * dim * PAGE, dim, s + page * PAGE, row);
  float inverse[G];
  for (int g = 0; g < G; g++)
    inverse[g] = 1.0f / softmax_row(s + size_t(g) * row, length, padded, m.s.scale);
  int v = 0;
  for (; v + 2 * VW <= m.padded_dim; v += 2 * VW)
    mix_values<G, 2>(s, row, values + v, m.padded_dim, length, inverse, out + v, m.padded_dim);
  for (; v < m.padded_dim; v += VW)
    mix_values<G, 1>(s, row, values + v, m.padded_dim, length, inverse, out + v, m.padded_dim);
}

// the working memory of one thread
class Block {
 public:
  Block(const Model& model, int longest) : m(model), row(round_up(longest, PAGE)) {
    const Spec& s = m.s;
    const size_t qkv_rows = size_t(s.heads + 2 * s.kv_heads) * s.head_dim;
    x = floats(size_t(s.hidden + NR) * LANES);
    h = floats(size_t(s.hidden + NR) * LANES);
    qkv = floats((qkv_rows + NR) * LANES);
    mixed = floats(size_t(s.heads) * s.head_dim * LANES);
    gate = floats(size_t(s.ffn + NR) * LANES);
    up = floats(size_t(s.ffn + NR) * LANES);
    logits = floats(size_t(s.vocab + NR) * LANES);
    cosine = floats(size_t(s.head_dim / 2) * LANES);
    sine = floats(size_t(s.head_dim / 2) * LANES);
    query = floats(size_t(s.heads) * s.head_dim);
    out = floats(size_t(s.heads) * m.padded_dim);
    scores = floats(size_t(4) * row);
  }

  Floats logits;  // [vocab][lane] after run(..., true)

  void run(const Lane* lanes, int count, const float* cos_table, const float* sin_table,
           bool with_head) {
    const Spec& s = m.s;
    const int vectors = (count + VW - 1) / VW, half = s.head_dim / 2;
    for (int i = 0; i < vectors * VW; i++) {
      const int lane = std::min(i, count - 1);  // unused lanes repeat the last one
      const float* e = &m.embedding[size_t(lanes[lane].token) * s.hidden];
      for (int j = 0; j < s.hidden; j++) x[j * LANES + i] = e[j];
      const size_t at = size_t(lanes[lane].position) * half;
      for (int j = 0; j < half; j++) {
        cosine[j * LANES + i] = cos_table[at + j];
        sine[j * LANES + i] = sin_table[at + j];
      }
    }
    for (int layer = 0; layer < s.layers; layer++) {
      const Layer& l = m.layers[layer];
      rms_norm(x.get(), l.input_norm.get(), s.hidden, s.eps, h.get(), vectors);
      apply<false>(l.qkv, h.get(), qkv.get(), vectors);
      rotate(l, vectors);
      remember(lanes, count, layer);
      for (int i = 0; i < count; i++) attention(lanes[i], i, layer);
      apply<true>(l.output, mixed.get(), x.get(), vectors);
      rms_norm(x.get(), l.post_norm.get(), s.hidden, s.eps, h.get(), vectors);
      apply<false>(l.gate, h.get(), gate.get(), vectors);
      apply<false>(l.up, h.get(), up.get(), vectors);
      for (int j = 0; j < s.ffn; j++)
        for (int v = 0; v < vectors * VW; v += VW) {
          float* g = &gate[j * LANES + v];
          store(g, load(g) / (1.0f + exp_lanes(-load(g))) * load(&up[j * LANES + v]));
        }
      apply<true>(l.down, gate.get(), x.get(), vectors);
    }
    if (!with_head) return;
    rms_norm(x.get(), m.final_norm.get(), s.hidden, s.eps, h.get(), vectors);
    apply<false>(m.head, h.get(), logits.get(), vectors);
  }

 private:
  const Model& m;
  int row;
  Floats x, h, qkv, mixed, gate, up, cosine, sine, query, out, scores;

  void rotate(const Layer& l, int vectors) {
    const Spec& s = m.s;
    const int half = s.head_dim / 2;
    for (int head = 0; head < s.heads + s.kv_heads; head++) {
      float* a = &qkv[size_t(head) * s.head_dim * LANES];
      const float* norm = (head < s.heads ? l.q_norm : l.k_norm).get();
      if (m.has_qk_norm) rms_norm(a, norm, s.head_dim, s.eps, a, vectors);
      for (int j = 0; j < half; j++)
        for (int v = 0; v < vectors * VW; v += VW) {
          float *p = a + j * LANES + v, *r = a + (j + half) * LANES + v;
          const vec c = load(&cosine[j * LANES + v]), n = load(&sine[j * LANES + v]);
          const vec first = load(p), second = load(r);
          store(p, first * c - second * n);
          store(r, second * c + first * n);
        }
    }
  }

  void remember(const Lane* lanes, int count, int layer) {
    const Spec& s = m.s;
    for (int head = 0; head < s.kv_heads; head++) {
      const float* k = &qkv[size_t(s.heads + head) * s.head_dim * LANES];
      const float* v = &qkv[size_t(s.heads + s.kv_heads + head) * s.head_dim * LANES];
      for (int i = 0; i < count; i++) {
        const int at = lanes[i].position;
        float* keys = lanes[i].cache->key_head(m, layer, head);
        float* values = lanes[i].cache->value_head(m, layer, head);
        keys += size_t(at / PAGE) * s.head_dim * PAGE + at % PAGE;
        values += size_t(at) * m.padded_dim;
        for (int d = 0; d < s.head_dim; d++) {
          keys[d * PAGE] = k[d * LANES + i];
          values[d] = v[d * LANES + i];
        }
      }
    }
  }

  void attention(const Lane& lane, int index, int layer) {
    const Spec& s = m.s;
    const int share = s.heads / s.kv_heads, length = lane.position + 1;
    for (int j = 0; j < s.heads * s.head_dim; j++) query[j] = qkv[j * LANES + index];
    for (int head = 0; head < s.kv_heads; head++) {
      const float* keys = lane.cache->key_head(m, layer, head);
      const float* values = lane.cache->value_head(m, layer, head);
      for (int g = 0; g < share; g += 4) {
        const float* q = &query[size_t(head * share + g) * s.head_dim];
        float* o = &out[size_t(head * share + g) * m.padded_dim];
        switch (std::min(4, share - g)) {
          case 1: attend<1>(m, q, keys, values, length, scores.get(), row, o); break;
          case 2: attend<2>(m, q, keys, values, length, scores.get(), row, o); break;
          case 3: attend<3>(m, q, keys, values, length, scores.get(), row, o); break;
          default: attend<4>(m, q, keys, values, length, scores.get(), row, o);
        }
      }
    }
    for (int head = 0; head < s.heads; head++)
      for (int d = 0; d < s.head_dim; d++)
        mixed[(size_t(head) * s.head_dim + d) * LANES + index] = out[head * m.padded_dim + d];
  }
};

}  // namespace rlnorm
