#pragma once

namespace strand {

/// Removes what all TemporaryPaths of this process name (core/temporary_path.h), as a signal that ends the process
/// does. It is for handlers of other signals that end it, and calls nothing that a handler may not call.
void remove_temporary_paths() noexcept;

}  // namespace strand
