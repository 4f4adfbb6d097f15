// NCCL subset at its real C ABI.  Ranks are host threads of one process (one emulated device each).  A collective is a
// stream operation that is not ready until every rank's stream has reached it; the last to arrive does the work.
#include <nccl.h>

#include <cstdio>

#include "gpu_emulation/internal.h"
using namespace gpu_emulation;
namespace {
struct Call {
  const char* kind;
  const void* in;
  void* out;
  size_t n;
  ncclDataType_t t;
  ncclRedOp_t op;
  int root;
  uint32_t oprec;
  bool posted;
};
struct Slot {
  std::vector<Call> ranks;
  int posted = 0, left = 0;
  bool done = false;
  VC vc;
};
struct P2P {
  std::vector<char> data;
  size_t n;
  ncclDataType_t t;
  uint32_t oprec;
};  // prototype: sends are buffered (real NCCL may block)
struct Shared {
  int n, joined = 0;
  std::map<uint64_t, Slot> slots;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<P2P>>> wire;
};
std::map<std::string, Shared*> worlds;
uint64_t next_id;
size_t width(ncclDataType_t t) {
  switch (t) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}
float get(const void* p, ncclDataType_t t, size_t i) {
  if (t == ncclFloat32) return ((const float*)p)[i];
  if (t == ncclInt32) return (float)((const int*)p)[i];
  unsigned u = (unsigned)((const unsigned short*)p)[i] << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
void put(void* p, ncclDataType_t t, size_t i, float v) {
  if (t == ncclFloat32)
    ((float*)p)[i] = v;
  else if (t == ncclInt32)
    ((int*)p)[i] = (int)v;
  else
    ((__nv_bfloat16*)p)[i] = __float2bfloat16(v);
}
void range(const void* p, size_t n, bool w, const char* what) {
  if (!n) return;
  const Alloc* a = find_alloc((uintptr_t)p);
  if (!a || a->pinned || a->freed || (uintptr_t)p + n > a->base + a->size) {
    report("out-of-bounds", "nccl %s: %p + %zu bytes is not device memory", what, p, n);
    return;
  }
  if (checker_on) checker_range(p, n, w, what);
}
}  // namespace
struct ncclComm {
  Shared* w;
  int rank;
  uint64_t seq = 0;
};
static thread_local int group_depth;
static thread_local std::vector<std::function<void()>> group_calls;
static void submit(std::function<void()> f) {
  if (group_depth)
    group_calls.push_back(std::move(f));
  else
    f();
}
static ncclResult_t collective(ncclComm_t c, cudaStream_t s, Call call, size_t in_n, size_t out_n) {
  uint64_t seq = c->seq++;
  const char* kind = call.kind;
  int me = c->rank;
  Shared* w = c->w;
  size_t wd = width(call.t);
  enqueue(s, kind, [=]() mutable {
    Slot& slot = w->slots[seq];
    if (slot.ranks.empty()) {
      slot.ranks.resize((size_t)w->n);
      slot.left = w->n;
    }
    Call& mine = slot.ranks[(size_t)me];
    if (!mine.posted) {
      mine = call;
      mine.posted = true;
      mine.oprec = cur_op;
      ++slot.posted;
      range(call.in, in_n * wd, false, kind);
      range(call.out, out_n * wd, true, kind);
      for (auto& r : slot.ranks)
        if (r.posted && (strcmp(r.kind, kind) || r.n != call.n || r.t != call.t || r.root != call.root)) {
          report("nccl-mismatch", "call %llu: rank %d %s count %zu, another rank %s count %zu", (unsigned long long)seq,
                 me, kind, call.n, r.kind, r.n);
          slot.done = true;
        }
      size_t vcs = op_recs[cur_op].vc.size();
      if (slot.vc.size() < vcs) slot.vc.resize(vcs);
      for (size_t i = 0; i < vcs; ++i) slot.vc[i] = std::max(slot.vc[i], op_recs[cur_op].vc[i]);
    }
    if (slot.posted < w->n && !slot.done) return OpState::not_ready;
    if (!slot.done) {
      slot.done = true;
      size_t n = call.n;
      std::string k = kind;
      std::vector<float> acc;
      if (k == "ncclAllReduce" || k == "ncclReduceScatter") {
        size_t tot = k == "ncclAllReduce" ? n : n * (size_t)w->n;
        acc.assign(tot, 0);
        for (size_t i = 0; i < tot; ++i) {
          float v = get(slot.ranks[0].in, call.t, i);
          for (int r = 1; r < w->n; ++r) {
            float u = get(slot.ranks[(size_t)r].in, call.t, i);
            v = call.op == ncclMax ? std::max(v, u) : v + u;
          }
          acc[i] = call.op == ncclAvg ? v / (float)w->n : v;
        }
      }
      std::vector<char> all;
      if (k == "ncclAllGather")
        for (auto& r : slot.ranks) all.insert(all.end(), (const char*)r.in, (const char*)r.in + n * wd);
      if (k == "ncclBroadcast") {
        const char* p = (const char*)slot.ranks[(size_t)call.root].in;
        all.assign(p, p + n * wd);
      }
      for (int r = 0; r < w->n; ++r) {
        Call& q = slot.ranks[(size_t)r];
        if (!acc.empty()) {
          size_t o = k == "ncclReduceScatter" ? n * (size_t)r : 0;
          for (size_t i = 0; i < n; ++i) put(q.out, q.t, i, acc[o + i]);
        } else
          memcpy(q.out, all.data(), all.size());
      }
    }
    auto& vc = op_recs[cur_op].vc;
    if (vc.size() < slot.vc.size()) vc.resize(slot.vc.size());
    for (size_t i = 0; i < slot.vc.size(); ++i) vc[i] = std::max(vc[i], slot.vc[i]);
    if (--slot.left == 0) w->slots.erase(seq);
    return OpState::done;
  });
  return ncclSuccess;
}
extern "C" {
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::lock_guard<BigLock> l(big_lock());
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "emu%llu", (unsigned long long)++next_id);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* c, int n, ncclUniqueId id, int rank) {
  std::lock_guard<BigLock> l(big_lock());
  auto& w = worlds[id.internal];
  if (!w) {
    w = new Shared;
    w->n = n;
  }
  if (w->n != n || rank >= n) return ncclInvalidArgument;
  *c = new ncclComm{w, rank};
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t c) {
  delete c;
  return ncclSuccess;
}
ncclResult_t ncclCommCount(const ncclComm_t c, int* n) {
  *n = c->w->n;
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t c, int* r) {
  *r = c->rank;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t r) {
  return r == ncclSuccess ? "no error" : "error";
}
ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (--group_depth == 0) {
    auto c = std::move(group_calls);
    group_calls.clear();
    for (auto& f : c) f();
  }
  return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void* i, void* o, size_t n, ncclDataType_t t, ncclRedOp_t op, ncclComm_t c,
                           cudaStream_t s) {
  submit([=] { collective(c, s, {"ncclAllReduce", i, o, n, t, op, 0, 0, false}, n, n); });
  return ncclSuccess;
}
ncclResult_t ncclReduceScatter(const void* i, void* o, size_t n, ncclDataType_t t, ncclRedOp_t op, ncclComm_t c,
                               cudaStream_t s) {
  submit([=] { collective(c, s, {"ncclReduceScatter", i, o, n, t, op, 0, 0, false}, n * (size_t)c->w->n, n); });
  return ncclSuccess;
}
ncclResult_t ncclAllGather(const void* i, void* o, size_t n, ncclDataType_t t, ncclComm_t c, cudaStream_t s) {
  submit([=] { collective(c, s, {"ncclAllGather", i, o, n, t, ncclSum, 0, 0, false}, n, n * (size_t)c->w->n); });
  return ncclSuccess;
}
ncclResult_t ncclBroadcast(const void* i, void* o, size_t n, ncclDataType_t t, int root, ncclComm_t c, cudaStream_t s) {
  submit([=] { collective(c, s, {"ncclBroadcast", i, o, n, t, ncclSum, root, 0, false}, c->rank == root ? n : 0, n); });
  return ncclSuccess;
}
ncclResult_t ncclSend(const void* p, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s) {
  submit([=] {
    auto m = std::make_shared<P2P>(P2P{{}, n, t, 0});
    enqueue(s, "ncclSend", [=] {
      range(p, n * width(t), false, "ncclSend");
      m->oprec = cur_op;
      m->data.assign((const char*)p, (const char*)p + n * width(t));
      c->w->wire[{c->rank, peer}].push_back(m);
      return OpState::done;
    });
  });
  return ncclSuccess;
}
ncclResult_t ncclRecv(void* p, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s) {
  submit([=] {
    enqueue(s, "ncclRecv", [=] {
      auto& q = c->w->wire[{peer, c->rank}];
      if (q.empty()) return OpState::not_ready;
      auto m = q.front();
      q.pop_front();
      if (m->n != n || m->t != t) report("nccl-mismatch", "recv of %zu from rank %d, which sent %zu", n, peer, m->n);
      range(p, n * width(t), true, "ncclRecv");
      memcpy(p, m->data.data(), std::min(n, m->n) * width(t));
      const VC& v = op_recs[m->oprec].vc;
      auto& vc = op_recs[cur_op].vc;
      if (vc.size() < v.size()) vc.resize(v.size());
      for (size_t i = 0; i < v.size(); ++i) vc[i] = std::max(vc[i], v[i]);
      return OpState::done;
    });
  });
  return ncclSuccess;
}
}
