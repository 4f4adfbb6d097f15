#pragma once
// The order of rows in matrices whose rows are rotated by RoPE, and of those parts of latent attention that another
// program keeps in other matrices. This header is private to export/.
#include "config/config.h"
#include "export/element_reader.h"
#include "export/family.h"

namespace strand::hf {

/// The row of our matrix that is row i of the class's; empty where both have the same order.
RowOrder their_rows(Layout layout, const ModelConfig& model);

/// The row of the class's matrix that is row i of ours.
RowOrder our_rows(Layout layout, const ModelConfig& model);

/// The element of our matrix that is element i of the class's; empty where `their_rows` says it.
ElementOrder their_elements(Layout layout, const ModelConfig& model);

}  // namespace strand::hf
