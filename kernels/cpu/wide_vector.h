#pragma once
// Sixteen numbers of 32 bits as an array of the vectors that the instruction set has: two of AVX2, four of SSE or NEON.
// GCC keeps a vector that is wider than a register in memory, and compares and selects it lane by lane, but it keeps
// the parts of such an array in registers. With AVX-512 the compiler's own vector of 64 bytes is used instead.
#include <cstdint>
#include <type_traits>

namespace strand::simd {

#if defined(__AVX__)
constexpr int part_bytes = 32;
#else
constexpr int part_bytes = 16;
#endif

template <typename T>
struct Part;  // an attribute cannot depend on a template's parameter in all compilers
template <>
struct Part<float> {
  typedef float type __attribute__((vector_size(part_bytes)));
};
template <>
struct Part<int32_t> {
  typedef int32_t type __attribute__((vector_size(part_bytes)));
};
template <>
struct Part<uint32_t> {
  typedef uint32_t type __attribute__((vector_size(part_bytes)));
};
typedef uint16_t half_part __attribute__((vector_size(part_bytes / 2)));

template <typename T>
struct Wide {
  static constexpr int parts = 64 / part_bytes;
  typename Part<T>::type part[parts];
};

/// The vector whose part i is of(i).
template <typename T, typename Of>
__attribute__((always_inline)) inline Wide<T> by_parts(const Of& of) {
  Wide<T> r;
#if defined(__AVX__)
  r.part[0] = of(0);
  r.part[1] = of(1);
#else
  r.part[0] = of(0);
  r.part[1] = of(1);
  r.part[2] = of(2);
  r.part[3] = of(3);
#endif
  return r;
}

// A scalar operand takes the type of the vector's elements.
#define STRAND_WIDE_OPERATOR(op, Result)                                                                        \
  template <typename T>                                                                                         \
  __attribute__((always_inline)) inline Wide<Result> operator op(const Wide<T>& a, const Wide<T>& b) {          \
    return by_parts<Result>([&](int i) { return a.part[i] op b.part[i]; });                                     \
  }                                                                                                             \
  template <typename T>                                                                                         \
  __attribute__((always_inline)) inline Wide<Result> operator op(const Wide<T>& a, std::type_identity_t<T> b) { \
    return by_parts<Result>([&](int i) { return a.part[i] op b; });                                             \
  }                                                                                                             \
  template <typename T>                                                                                         \
  __attribute__((always_inline)) inline Wide<Result> operator op(std::type_identity_t<T> a, const Wide<T>& b) { \
    return by_parts<Result>([&](int i) { return a op b.part[i]; });                                             \
  }
STRAND_WIDE_OPERATOR(+, T)
STRAND_WIDE_OPERATOR(-, T)
STRAND_WIDE_OPERATOR(*, T)
STRAND_WIDE_OPERATOR(/, T)
STRAND_WIDE_OPERATOR(&, T)
STRAND_WIDE_OPERATOR(|, T)
STRAND_WIDE_OPERATOR(<<, T)
STRAND_WIDE_OPERATOR(>>, T)
STRAND_WIDE_OPERATOR(<, int32_t)
STRAND_WIDE_OPERATOR(>, int32_t)
STRAND_WIDE_OPERATOR(<=, int32_t)
STRAND_WIDE_OPERATOR(>=, int32_t)
STRAND_WIDE_OPERATOR(==, int32_t)
STRAND_WIDE_OPERATOR(!=, int32_t)
#undef STRAND_WIDE_OPERATOR

#define STRAND_WIDE_ASSIGNMENT(op)                                                            \
  template <typename T, typename Other>                                                       \
  __attribute__((always_inline)) inline Wide<T>& operator op##=(Wide<T>& a, const Other& b) { \
    return a = a op b;                                                                        \
  }
STRAND_WIDE_ASSIGNMENT(+)
STRAND_WIDE_ASSIGNMENT(-)
STRAND_WIDE_ASSIGNMENT(*)
STRAND_WIDE_ASSIGNMENT(/)
#undef STRAND_WIDE_ASSIGNMENT

template <typename T>
__attribute__((always_inline)) inline Wide<T> operator-(const Wide<T>& a) {
  return by_parts<T>([&](int i) { return -a.part[i]; });
}

/// Lane-wise choice; `mask` lanes are 0 or −1.
template <typename T>
__attribute__((always_inline)) inline Wide<T> select(const Wide<int32_t>& mask, const Wide<T>& yes, const Wide<T>& no) {
  return by_parts<T>([&](int i) { return mask.part[i] ? yes.part[i] : no.part[i]; });
}

/// Towards zero.
inline Wide<int32_t> to_int(const Wide<float>& v) {
  return by_parts<int32_t>([&](int i) { return __builtin_convertvector(v.part[i], Part<int32_t>::type); });
}

/// Lanes a0 b0 a1 b1 ... a7 b7, and a8 b8 ... a15 b15.
inline void interleave(const Wide<float>& a, const Wide<float>& b, Wide<float>& low, Wide<float>& high) {
  for (int i = 0; i < Wide<float>::parts; ++i) {
    Wide<float>& to = i < Wide<float>::parts / 2 ? low : high;
    const int at = 2 * (i % (Wide<float>::parts / 2));
#if defined(__AVX__)
    to.part[at] = __builtin_shufflevector(a.part[i], b.part[i], 0, 8, 1, 9, 2, 10, 3, 11);
    to.part[at + 1] = __builtin_shufflevector(a.part[i], b.part[i], 4, 12, 5, 13, 6, 14, 7, 15);
#else
    to.part[at] = __builtin_shufflevector(a.part[i], b.part[i], 0, 4, 1, 5);
    to.part[at + 1] = __builtin_shufflevector(a.part[i], b.part[i], 2, 6, 3, 7);
#endif
  }
}

}  // namespace strand::simd
