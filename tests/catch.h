#pragma once
// Catch2, whichever version the system has: every test includes this header and not Catch2's own.
#include <catch2/catch.hpp>
