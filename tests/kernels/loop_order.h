#pragma once
// In which order parallel loops hand out their blocks. OpenMP leaves that open for `schedule(dynamic)`, and a result
// that depends on it is a fault that shows only now and then. Here it shows every time: the blocks go out last to
// first, also to one thread alone.
//
// The program's calls of libgomp's loop functions come here first (loop_order.cpp defines their names). Compilers with
// another OpenMP library are not affected: there LastBlocksFirst does nothing, and the runs it makes are repetitions.

namespace strand::test {

/// Loops with `schedule(dynamic)` that begin in the lifetime of such an object run last block first.
class LastBlocksFirst {
 public:
  LastBlocksFirst();
  ~LastBlocksFirst();
  LastBlocksFirst(const LastBlocksFirst&) = delete;
  LastBlocksFirst& operator=(const LastBlocksFirst&) = delete;
};

}  // namespace strand::test
