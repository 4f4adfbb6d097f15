#!/usr/bin/env bash
# What compilations of the kernels for several levels of instruction sets must not do to each other and to the rest.
#
#   levels_are_apart.sh BUILD_FOLDER LEVEL_OBJECT...
#
# 1. A level's object shows the linker one function, and the locks of OpenMP's critical sections (data, not code).
# 2. The rest of the program, and the level "portable", hold no instruction on ymm or zmm registers; the level "avx2"
#    holds none on zmm registers.
set -euo pipefail
build=$1
shift
nm=${NM:-nm} objdump=${OBJDUMP:-objdump}
failed=0

for object in "$@"; do
  level=$(basename "$object" .o)
  level=${level#strand_cpu_}
  shown=$("$nm" -g --defined-only "$object" | awk 'NF == 3 && $3 !~ /^\.gomp_critical_user_/ {print $3}')
  if [ "$shown" != "strand_cpu_level_$level" ]; then
    echo "FAILED: $object shows the linker more than strand_cpu_level_$level:" $shown
    failed=1
  fi
done

# refuse PATTERN FILE...: no instruction of the files matches.
refuse() {
  local pattern=$1
  shift
  for file in "$@"; do
    local found
    found=$("$objdump" -d --no-show-raw-insn "$file" | awk -v p="$pattern" '$0 ~ p {print; if (++n == 3) exit}' || true)
    if [ -n "$found" ]; then
      echo "FAILED: instructions of a higher level in $file:"
      echo "$found"
      failed=1
    fi
  done
}
checked=0
for object in "$@"; do
  case $object in
    *strand_cpu_portable.o) refuse '%[yz]mm' "$object"; checked=$((checked + 1)) ;;
    *strand_cpu_avx2.o) refuse '%zmm' "$object"; checked=$((checked + 1)) ;;
  esac
done
# Whatever is linked into the program and is not the kernels: the objects that CMake compiled.
mapfile -t others < <(find "$build" -name '*.cpp.o' ! -path '*/strand_cpu_*_objects.dir/*' ! -path "$build/tests/*")
if [ ${#others[@]} -lt 20 ]; then
  echo "FAILED: only ${#others[@]} objects found below $build"
  exit 1
fi
refuse '%[yz]mm' "${others[@]}"
echo "${#others[@]} objects of the program, $checked levels with a limit looked at"
exit $failed
