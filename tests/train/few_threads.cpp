// A shared library for test_few_threads, to be loaded before all others: the system starts as many threads as the
// environment variable FEW_THREADS says, and then no more.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*routine)(void*),
                              void* argument) {
  static std::atomic<long> left = std::getenv("FEW_THREADS") == nullptr ? 0 : std::atol(std::getenv("FEW_THREADS"));
  static const auto create = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return left-- > 0 ? create(thread, attributes, routine, argument) : EAGAIN;
}
