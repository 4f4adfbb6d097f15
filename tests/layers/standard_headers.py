#!/usr/bin/env python3
"""Every file includes the standard headers of what it names, itself or through headers of this project.

    standard_headers.py SOURCES

A standard library may include one of its headers in another, and another version may not: with GCC 13, <string_view>
brings no <cstdint>, with GCC 12 and 14 it does. What every container brings (std::move, std::pair, std::byte,
std::initializer_list) is left out of the table.
"""
import os
import re
import sys
from pathlib import Path

INTEGER = r"\b(?:std::)?u?int(?:8|16|32|64)_t\b|\bu?intptr_t\b"
ALGORITHM = ("sort stable_sort partial_sort nth_element find find_if find_if_not copy copy_n copy_if fill fill_n all_of any_of none_of "
             "count count_if max_element min_element lower_bound upper_bound equal_range reverse rotate transform remove_if unique "
             "replace min max minmax clamp generate shuffle").split()

# Pattern of names -> the headers of which one is needed.
TABLE = {
    INTEGER: {"cstdint", "stdint.h", "inttypes.h"},
    rf"\bstd::(?:{'|'.join(ALGORITHM)})\s*[(<]": {"algorithm"},
    r"\bstd::(?:accumulate|iota|inner_product|partial_sum|reduce)\b": {"numeric"},
    r"\bstd::(?:sqrt|exp|log|log2|log1p|fabs|isfinite|isnan|nan|pow|floor|ceil|round|lround|nextafter|cos|sin|tanh|erf|signbit)\b": {"cmath"},
    r"\bstd::(?:memcpy|memset|memmove|memcmp|strlen|strcmp|strerror)\b": {"cstring"},
    r"\bstd::(?:getenv|exit|_Exit|abort|malloc|calloc|free|strtol|strtoll|strtoull|strtod)\b": {"cstdlib"},
    r"\bstd::(?:FILE|fopen|fclose|fflush|fwrite|fputs|fprintf|printf|snprintf)\b": {"cstdio"},
    r"\bstd::(?:unique_ptr|shared_ptr|weak_ptr|make_unique|make_shared)\b": {"memory"},
    r"\bstd::(?:optional|nullopt)\b": {"optional"},
    r"\bstd::(?:tuple|tie|make_tuple)\b": {"tuple"},
    r"\bstd::(?:variant|visit|get_if|holds_alternative)\b": {"variant"},
    r"\bstd::(?:mutex|lock_guard|unique_lock|scoped_lock)\b": {"mutex"},
    r"\bstd::(?:thread|this_thread)\b": {"thread"},
    r"\bstd::(?:runtime_error|logic_error|invalid_argument|out_of_range)\b": {"stdexcept"},
    r"\bstd::(?:exception|exception_ptr|current_exception|rethrow_exception)\b": {"exception", "stdexcept"},
    r"\bstd::(?:ostringstream|istringstream|stringstream)\b": {"sstream"},
    r"\bstd::(?:ifstream|ofstream|fstream)\b": {"fstream"},
    r"\bstd::(?:cout|cerr|cin)\b": {"iostream"},
    r"\bstd::(?:queue|priority_queue)\b": {"queue"},
    r"\bstd::(?:future|async|promise)\b": {"future"},
    r"\bstd::(?:bit_cast|popcount|countr_zero|countl_zero|bit_ceil|bit_width)\b": {"bit"},
    r"\bstd::(?:decay_t|conditional_t|enable_if_t|remove_reference_t|remove_cvref_t|underlying_type_t|is_[a-z_]+_v)\b": {"type_traits"},
    r"\bstd::error_code\b": {"system_error", "filesystem"},
}
TABLE |= {rf"\bstd::{name}\b": {name} for name in
          "string string_view vector array map set deque unordered_map unordered_set function span atomic condition_variable chrono "
          "filesystem regex".split()}
TABLE[r"\bstd::function\b"] = {"functional"}
TABLE[r"\bstd::atomic\w*\b"] = TABLE.pop(r"\bstd::atomic\b")
TABLE[r"\bstd::numeric_limits\b"] = {"limits"}

PATTERNS = [(re.compile(pattern), headers) for pattern, headers in TABLE.items()]
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.M)


def code_of(text):
    """Without comments and without what strings hold."""
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


class Sources:
    def __init__(self, texts):
        self.texts = texts
        self.reached = {}

    def file_of(self, name, include):
        for folder in ("src/", "", "tests/", os.path.dirname(name) + "/"):
            path = os.path.normpath(folder + include)
            if path in self.texts:
                return path
        return None

    def headers_of(self, name, above=()):
        """The standard headers that `name` reaches without going through one of them."""
        if name not in self.reached:
            found = set()
            for include in INCLUDE.findall(self.texts[name]):
                path = self.file_of(name, include)
                if path is None:
                    found.add(include)
                elif path not in above:
                    found |= self.headers_of(path, (*above, name))
            self.reached[name] = found
        return self.reached[name]

    def missing(self, name):
        code = code_of(self.texts[name])
        headers = self.headers_of(name)
        return [(found.group(0).strip(" (<"), sorted(needed)[0]) for pattern, needed in PATTERNS
                if not needed & headers and (found := pattern.search(code))]


def check_itself():
    made = Sources({
        "src/a/a.h": "#pragma once\n#include <string_view>\n// std::map\nenum class A : uint8_t { one };\n",
        "src/a/a.cpp": '#include "a/a.h"\n\n#include <cstdint>\nuint8_t x = std::max(1, 2); const char* s = "std::vector";\n',
        "src/b.cpp": '#include "a/a.h"\nstd::string_view v; std::optional<int> o;\n',
    })
    assert made.missing("src/a/a.h") == [("uint8_t", "cstdint")], made.missing("src/a/a.h")
    assert made.missing("src/a/a.cpp") == [("std::max", "algorithm")], made.missing("src/a/a.cpp")
    assert made.missing("src/b.cpp") == [("std::optional", "optional")], made.missing("src/b.cpp")


def main():
    check_itself()
    root = Path(sys.argv[1])
    texts = {str(path.relative_to(root)): path.read_text() for folder in ("src", "kernels", "tests")
             for path in sorted((root / folder).rglob("*")) if path.suffix in (".h", ".cpp", ".cu", ".cuh")}
    assert len(texts) > 500, f"only {len(texts)} files in {root}"
    sources, wrong = Sources(texts), 0
    for name in texts:
        for word, header in sources.missing(name):
            print(f"{name}: names {word}, and does not include <{header}>")
            wrong += 1
    print(f"{len(texts)} files, {wrong} headers missing")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
