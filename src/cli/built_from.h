#pragma once

namespace strand::cli {

/// The commit that this program is built from, as WriteCommit.cmake found it at this build; empty outside a clone.
const char* built_from_commit();

}  // namespace strand::cli
