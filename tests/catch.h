#pragma once
// Catch2, version 2 (Debian 12) or 3 (Debian 13): every test includes this header and not Catch2's own. The names here
// are those of version 2: Approx, and in namespace Catch the matchers Contains (of a string), StartsWith, EndsWith,
// Equals and Matches. Tests use nothing that only one of the versions has.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_session.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <catch2/matchers/catch_matchers_vector.hpp>
#include <string>

using Catch::Approx;

namespace Catch {
namespace Matchers {
// Version 3 calls this ContainsSubstring. Its own Contains, of ranges, is in a header that must not be included here.
inline StringContainsMatcher Contains(const std::string& part, CaseSensitive sensitive = CaseSensitive::Yes) {
  return ContainsSubstring(part, sensitive);
}
}  // namespace Matchers
using Matchers::Contains;
using Matchers::EndsWith;
using Matchers::Equals;
using Matchers::Matches;
using Matchers::StartsWith;
}  // namespace Catch
#else
#include <catch2/catch.hpp>
#endif
