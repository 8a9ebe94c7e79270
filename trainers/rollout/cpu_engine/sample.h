// Sampling as defined in trainers/rollout/sampling.py, over lanes.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "lanes.h"

namespace rlnorm {

inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// in [0, 1), 52 bits
inline double uniform(uint64_t seed, uint64_t position) {
  return double(mix(mix(seed) + (position + 1) * 0x9E3779B97F4A7C15ull) >> 12) * 0x1p-52;
}

struct Sampling {
  float temperature;  // 0 is greedy
  float min_p;
  double top_p;
  int32_t top_k;

  bool is_cut() const { return top_k > 0 || top_p < 1 || min_p > 0; }
};

// softmax over the vocabulary of every lane
struct Softmax {
  Floats mass;  // [vocab][lane], relative to the most likely token
  float most[LANES];
  double total[LANES];

  explicit Softmax(int vocab) : mass(floats(size_t(vocab) * LANES)) {}

  // logits become logits / temperature
  void run(float* logits, int vocab, const float* temperature, int vectors) {
    for (int v = 0; v < vectors * VW; v += VW) {
      const vec divisor = load(temperature + v);
      vec top = splat(-INFINITY);
      for (int t = 0; t < vocab; t++) {
        float* p = logits + size_t(t) * LANES + v;
        const vec z = load(p) / divisor;
        store(p, z);
        top = larger(z, top);
      }
      dvec sum{};
      for (int t = 0; t < vocab; t++) {
        const vec e = exp_lanes(load(logits + size_t(t) * LANES + v) - top);
        store(&mass[size_t(t) * LANES + v], e);
        sum += widen(e);
      }
      for (int i = 0; i < VW; i++) most[v + i] = top[i], total[v + i] = sum[i];
    }
  }

  float logprob(const float* scaled, int lane, int token) const {
    const double z = double(scaled[size_t(token) * LANES + lane]) - most[lane];
    return float(z - std::log(total[lane]));
  }

  bool is_finite(int lane) const { return std::isfinite(total[lane]) && std::isfinite(most[lane]); }

  // for every lane, the first token whose cumulative mass exceeds u times the total mass
  void draw(int vocab, const double* u, const double* kept, int vectors, int32_t* tokens) const {
    for (int v = 0; v < vectors * VW; v += VW) {
      dvec target, sum{};
      lvec count{};
      for (int i = 0; i < VW; i++) target[i] = u[v + i] * kept[v + i];
      for (int t = 0; t < vocab; t++) {
        sum += widen(load(&mass[size_t(t) * LANES + v]));
        count -= sum <= target;
      }
      for (int i = 0; i < VW; i++) tokens[v + i] = int32_t(std::min<int64_t>(count[i], vocab - 1));
    }
  }

  int32_t draw_one(int vocab, int lane, double u, double kept) const {
    double sum = 0;
    for (int t = 0; t < vocab; t++) {
      sum += mass[size_t(t) * LANES + lane];
      if (sum > u * kept) return t;
    }
    return vocab - 1;
  }

  int32_t likeliest(const float* scaled, int vocab, int lane) const {
    for (int t = 0; t < vocab; t++)
      if (scaled[size_t(t) * LANES + lane] == most[lane]) return t;
    return 0;
  }

  // sets the mass of all tokens that min-p, top-k and top-p remove to 0; returns the mass left
  double cut(const float* scaled, int vocab, int lane, const Sampling& s) {
    struct Token {
      float z;
      int32_t id;
      bool operator<(const Token& o) const { return z < o.z || (z == o.z && id > o.id); }
    };
    static thread_local std::vector<Token> heap;
    heap.clear();
    double all = 0;
    for (int t = 0; t < vocab; t++) {
      float& e = mass[size_t(t) * LANES + lane];
      const float z = scaled[size_t(t) * LANES + lane];
      if (e >= s.min_p || z == most[lane]) {
        heap.push_back({z, t});
        all += e;
      } else {
        e = 0;
      }
    }
    if (s.top_k == 0 && s.top_p >= 1) return all;
    std::make_heap(heap.begin(), heap.end());
    auto end = heap.end();
    const auto most_mass = [&](const Token& k) { return mass[size_t(k.id) * LANES + lane]; };
    auto kept = end;  // [kept, end) holds the tokens taken so far, the best one last
    double taken = 0;
    const auto is_full = [&](const Token& next) {
      if (s.top_k > 0 && end - kept >= s.top_k && next.z < kept->z) return true;
      return s.top_k == 0 && taken >= s.top_p * all;
    };
    while (kept != heap.begin() && (kept == end || !is_full(heap.front()))) {
      std::pop_heap(heap.begin(), kept);
      taken += most_mass(*--kept);
    }
    for (auto k = heap.begin(); k != kept; ++k) mass[size_t(k->id) * LANES + lane] = 0;
    if (s.top_k > 0 && s.top_p < 1) {
      double before = 0, limit = s.top_p * taken;
      for (auto k = end; k-- != kept;) {
        float& e = mass[size_t(k->id) * LANES + lane];
        if (k + 1 != end && before >= limit)
          e = 0;
        else
          before += e;
      }
    }
    // summed in index order like in draw, so that u < 1 always finds a token
    double left = 0;
    for (int t = 0; t < vocab; t++) left += mass[size_t(t) * LANES + lane];
    return left;
  }
};

}  // namespace rlnorm
