// Decodes groups of sequences. Each thread fills a block with the next token of every sequence it
// has and uses free lanes for prompt tokens of the next groups; it takes a new sequence as soon as
// one ends. Threads share nothing but the list of work.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "forward.h"
#include "sample.h"

using namespace rlnorm;

extern "C" {
struct Job {
  int32_t groups, threads, longest;  // longest: maximum tokens of a sequence with its prompt
  const int32_t* prompt_tokens;      // of all groups, concatenated
  const int64_t* prompt_starts;      // [groups + 1]
  const int64_t* row_starts;         // [groups + 1], rows of a group are consecutive
  const uint64_t* seeds;             // [rows]
  const float *temperature, *min_p;  // [groups]
  const double* top_p;
  const int32_t *top_k, *max_tokens, *has_strings;
  const int32_t* end_tokens;
  const int64_t* end_starts;         // [groups + 1]
  const float *cos_table, *sin_table;
  double seconds;
  const int32_t* cancelled;
  int32_t (*found_string)(int64_t row, const int32_t* tokens, int32_t count);
  int64_t stride;                    // of the output rows
  int32_t *tokens, *lengths, *stopped;
  float* logprobs;
  float* scores;                     // [prompt tokens]; if not null, score the prompts instead
  int32_t broken_group, broken_position;
};
}

namespace {

enum Status { OK = 0, LATE = 1, CANCELLED = 2, NO_MEMORY = 3, BROKEN = 4 };

struct Group {
  int32_t id, length;
  int64_t first_row, rows;
  const int32_t* prompt;
  Sampling sampling;
  Cache cache;
  std::atomic<int64_t> waiting{0};  // rows that still have to copy the cache
};

struct Sequence {
  Group* group = nullptr;
  int64_t row = 0;
  int32_t length = 0, token = 0;
};

struct Prefill {
  Group* group;
  int32_t next;
};

// shared by the threads
struct Pool {
  const Model& model;
  Job& job;
  std::vector<Group> groups;
  std::deque<Sequence> ready;
  int next_group = 0, prefilling = 0, idle = 0;
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<int> status{OK};
  std::chrono::steady_clock::time_point end;

  Pool(const Model& m, Job& j) : model(m), job(j), groups(j.groups) {
    end = std::chrono::steady_clock::now() +
          std::chrono::duration_cast<std::chrono::steady_clock::duration>(
              std::chrono::duration<double>(j.seconds));
    for (int i = 0; i < j.groups; i++) {
      Group& g = groups[i];
      g.id = i;
      g.length = int32_t(j.prompt_starts[i + 1] - j.prompt_starts[i]);
      g.first_row = j.row_starts[i];
      g.rows = j.row_starts[i + 1] - j.row_starts[i];
      g.prompt = j.prompt_tokens + j.prompt_starts[i];
      g.sampling = {j.temperature[i], j.min_p[i], j.top_p[i], j.top_k[i]};
    }
  }

  void fail(Status why) {
    int expected = OK;
    status.compare_exchange_strong(expected, why);
    std::lock_guard<std::mutex> lock(mutex);
    changed.notify_all();
  }

  void broken(const Group& g, int position) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (status == OK) job.broken_group = g.id, job.broken_position = position;
    }
    fail(BROKEN);
  }

  bool goes_on() {
    if (status != OK) return false;
    if (*static_cast<const volatile int32_t*>(job.cancelled)) fail(CANCELLED);
    if (std::chrono::steady_clock::now() > end) fail(LATE);
    return status == OK;
  }

  // writes one sampled token; true when it ends its completion
  bool append(Sequence& s, int32_t token, float logprob) {
    const Group& g = *s.group;
    int32_t* out = job.tokens + s.row * job.stride;
    out[s.length] = s.token = token;
    job.logprobs[s.row * job.stride + s.length] = logprob;
    const int32_t count = ++s.length;
    const int32_t *first = job.end_tokens + job.end_starts[g.id],
                  *last = job.end_tokens + job.end_starts[g.id + 1];
    bool stop = std::find(first, last, token) != last;
    if (!stop && job.has_strings[g.id]) stop = job.found_string(s.row, out, count) != 0;
    if (!stop && count < job.max_tokens[g.id]) return false;
    job.lengths[s.row] = count;
    job.stopped[s.row] = stop;
    return true;
  }
};

class Worker {
 public:
  Worker(Pool& pool, int slots)
      : pool(pool), m(pool.model), block(m, pool.job.longest), softmax(m.s.vocab), slots(slots) {}

  void run() {
    try {
      while (take_work() && pool.goes_on()) step();
    } catch (const std::bad_alloc&) {
      pool.fail(NO_MEMORY);
    }
  }

 private:
  Pool& pool;
  const Model& m;
  Block block;
  Softmax softmax;
  const int slots;
  std::vector<Sequence> active;
  std::vector<std::unique_ptr<Cache>> caches, spare;  // caches[i] is active[i]'s
  std::vector<Prefill> prefills;
  alignas(64) float temperature[LANES];

  // fills the slots; waits while another thread prefills; false when all work is done
  bool take_work() {
    std::unique_lock<std::mutex> lock(pool.mutex);
    while (pool.status == OK) {
      while (int(active.size()) < slots && !pool.ready.empty()) {
        active.push_back(pool.ready.front());
        pool.ready.pop_front();
      }
      int lanes = int(active.size());
      for (const Prefill& p : prefills) lanes += p.group->length - p.next;
      while (lanes < slots && pool.next_group < pool.job.groups) {
        Group& g = pool.groups[pool.next_group++];
        if (!g.rows && !pool.job.scores) continue;
        pool.prefilling++;
        prefills.push_back({&g, 0});
        lanes += g.length;
      }
      if (!active.empty() || !prefills.empty()) break;
      if (!pool.prefilling) return false;
      pool.changed.wait_until(lock, pool.end);
      if (std::chrono::steady_clock::now() > pool.end) {
        lock.unlock();
        pool.fail(LATE);
        return false;
      }
    }
    lock.unlock();
    if (pool.status != OK) return false;
    for (size_t i = caches.size(); i < active.size(); i++) adopt(active[i]);
    return true;
  }

  void adopt(const Sequence& s) {
    if (spare.empty()) {
      spare.push_back(std::make_unique<Cache>());
      spare.back()->room(m, pool.job.longest);
    }
    spare.back()->copy(m, s.group->cache, s.group->length);
    caches.push_back(std::move(spare.back()));
    spare.pop_back();
    if (--s.group->waiting == 0) s.group->cache = Cache();
  }

  void step() {
    Lane lanes[LANES] = {};
    int count = 0;
    for (; count < int(active.size()); count++) {
      const Sequence& s = active[count];
      lanes[count] = {s.token, s.group->length + s.length - 1, caches[count].get()};
      temperature[count] = s.group->sampling.temperature;
    }
    const int decoding = count;
    bool with_head = decoding > 0;
    Prefill of_lane[LANES];
    for (Prefill& p : prefills) {
      if (p.next == 0) p.group->cache.room(m, p.group->length);
      for (; count < LANES && p.next < p.group->length; p.next++, count++) {
        lanes[count] = {p.group->prompt[p.next], p.next, &p.group->cache};
        temperature[count] = p.group->sampling.temperature;
        of_lane[count] = p;
        with_head |= pool.job.scores || p.next + 1 == p.group->length;
      }
    }
    block.run(lanes, count, pool.job.cos_table, pool.job.sin_table, with_head);
    if (with_head) {
      const int vectors = (count + VW - 1) / VW;
      for (int i = 0; i < vectors * VW; i++)
        if (i >= count || temperature[i] == 0) temperature[i] = 1.0f;
      softmax.run(block.logits.get(), m.s.vocab, temperature, vectors);
      for (int i = decoding; i < count; i++) prompt_lane(of_lane[i], i);
      if (decoding) next_tokens(decoding);
    }
    finish_prefills();
  }

  double cut(const Sampling& s, int lane) {
    return s.is_cut() ? softmax.cut(block.logits.get(), m.s.vocab, lane, s) : softmax.total[lane];
  }

  void next_tokens(int decoding) {
    double u[LANES] = {}, kept[LANES] = {};
    int32_t tokens[LANES];
    for (int i = 0; i < decoding; i++) {
      const Sequence& s = active[i];
      if (!softmax.is_finite(i)) return pool.broken(*s.group, s.length);
      u[i] = uniform(pool.job.seeds[s.row], s.length);
      kept[i] = cut(s.group->sampling, i);
    }
    softmax.draw(m.s.vocab, u, kept, (decoding + VW - 1) / VW, tokens);
    int kept_rows = 0;
    for (int i = 0; i < decoding; i++) {
      Sequence& s = active[i];
      const bool greedy = s.group->sampling.temperature == 0;
      const int32_t token =
          greedy ? softmax.likeliest(block.logits.get(), m.s.vocab, i) : tokens[i];
      if (pool.append(s, token, softmax.logprob(block.logits.get(), i, token))) {
        spare.push_back(std::move(caches[i]));
        continue;
      }
      std::swap(caches[kept_rows], caches[i]);
      active[kept_rows++] = s;
    }
    active.resize(kept_rows);
    caches.resize(kept_rows);
  }

  // a prompt token's logits: its score, or the first token of every row of a finished prompt
  void prompt_lane(const Prefill& p, int lane) {
    Group& g = *p.group;
    const float* scaled = block.logits.get();
    const bool is_last = p.next + 1 == g.length;
    if (pool.job.scores ? is_last : !is_last) return;
    if (!softmax.is_finite(lane)) return pool.broken(g, pool.job.scores ? p.next : 0);
    if (pool.job.scores) {
      const int32_t target = g.prompt[p.next + 1];
      pool.job.scores[pool.job.prompt_starts[g.id] + p.next + 1] =
          softmax.logprob(scaled, lane, target);
      return;
    }
    const int vocab = m.s.vocab;
    const double kept = cut(g.sampling, lane);
    std::vector<Sequence> started;
    for (int64_t row = g.first_row; row < g.first_row + g.rows; row++) {
      Sequence s{&g, row, 0, 0};
      const double u = uniform(pool.job.seeds[row], 0);
      const int32_t token = g.sampling.temperature == 0 ? softmax.likeliest(scaled, vocab, lane)
                                                        : softmax.draw_one(vocab, lane, u, kept);
      if (!pool.append(s, token, softmax.logprob(scaled, lane, token))) started.push_back(s);
    }
    if (started.empty()) g.cache = Cache();
    g.waiting = int64_t(started.size());
    std::lock_guard<std::mutex> lock(pool.mutex);
    pool.ready.insert(pool.ready.end(), started.begin(), started.end());
  }

  void finish_prefills() {
    int left = 0, done = 0;
    for (const Prefill& p : prefills) {
      if (p.next < p.group->length) {
        prefills[left++] = p;
        continue;
      }
      done++;
      if (p.group->waiting == 0 && pool.job.scores) p.group->cache = Cache();
    }
    if (!done) return;
    prefills.resize(left);
    std::lock_guard<std::mutex> lock(pool.mutex);
    pool.prefilling -= done;
    pool.changed.notify_all();
  }
};

}  // namespace

extern "C" {

void* rlnorm_create(const Spec* spec) {
  try {
    return new Model(*spec);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void rlnorm_fill(void* model, const float* const* tensors) {
  static_cast<Model*>(model)->fill(tensors);
}

void rlnorm_destroy(void* model) { delete static_cast<Model*>(model); }

int32_t rlnorm_run(const void* model, Job* job) {
  try {
    Pool pool(*static_cast<const Model*>(model), *job);
    const int64_t rows = job->row_starts[job->groups];
    const int threads = std::max(1, job->threads);
    // few rows are distributed evenly, so that no thread is idle while another has many
    const int64_t share = job->scores ? LANES : (rows + threads - 1) / threads;
    const int slots = int(std::max<int64_t>(1, std::min<int64_t>(LANES, share)));
    std::vector<std::thread> others;
    const auto work = [&] {
      try {
        Worker(pool, slots).run();
      } catch (const std::bad_alloc&) {
        pool.fail(NO_MEMORY);
      }
    };
    for (int i = 1; i < threads; i++) others.emplace_back(work);
    work();
    for (std::thread& t : others) t.join();
    return pool.status;
  } catch (const std::bad_alloc&) {
    return NO_MEMORY;
  }
}
}
