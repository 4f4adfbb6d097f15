#pragma once

namespace strand::gpu {

/// How an operand of a product lies in memory: its inner dimension along the rows, or across them.
enum class InnerAxis { along_rows, across_rows };

}  // namespace strand::gpu
