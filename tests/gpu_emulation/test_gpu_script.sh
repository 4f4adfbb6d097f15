#!/usr/bin/env bash
# scripts/test_gpu.sh: with emulated GPUs in the place of real ones, with a program that computes something else, and
# without a GPU.
#
#   test_gpu_script.sh PROGRAM FOLDER     the emulated program, and a folder for what this test writes
set -euo pipefail
program=$1
folder=$2
script=$(dirname "$0")/../../scripts/test_gpu.sh
rm -rf "$folder"
mkdir -p "$folder"

fail() {
  echo "FAILED: $*" >&2
  exit 1
}
# expect FILE TEXT...: every text is in the file.
expect() {
  local file=$1 text
  shift
  for text in "$@"; do
    grep -qF -- "$text" "$file" || { cat "$file"; fail "\"$text\" is not in $file"; }
  done
}

echo "== every operation test"
# The names in the two lists of tests/kernels/CMakeLists.txt, in any order, are those that the script runs on a card.
built=$(tr '\n' ' ' <"$(dirname "$0")/../kernels/CMakeLists.txt" | grep -oE 'set\((operation|cuda)_tests [^)]*' |
  sed 's/^set([a-z_]* //' | xargs -n 1 | sort)
run=$(sed -n '/^operation_tests="/,/"$/p' "$script" | sed 's/operation_tests=//; s/"//g' | xargs -n 1 | sort)
[ -n "$built" ] && [ "$built" = "$run" ] || fail "scripts/test_gpu.sh runs other operation tests than are built:
$(diff <(echo "$built") <(echo "$run"))"

echo "== two emulated GPUs"
STRAND_TEST_GPU_EMULATED=$program bash "$script" --prebuilt "$folder/two" >"$folder/two.out" 2>&1 ||
  { cat "$folder/two.out"; fail "the script does not pass on emulated GPUs"; }
report=$folder/two/report.txt
expect "$report" "emulated GPUs" "commit " "toolkit: " "ok       verify_fp32" "ok       verify_bf16" \
  "ok       losses_as_on_the_cpu" "largest relative difference" "ok       the_same_bits_again" \
  "SKIPPED  operations" "SKIPPED  compute-sanitizer" "ok       bench" "tokens" ", 0 failed, "
if command -v mpirun >/dev/null && ! grep -q "SKIPPED  nccl: built without" "$report"; then
  expect "$report" "ok       verify_on_2_gpus_in_groups_of_2" "ok       losses_on_2_gpus"
fi

# A failure is in the report, with the end of its output, and in the exit status. Of a GPU that computes something else,
# the CPU's losses tell.
echo "== a program that fails on the GPU"
cat >"$folder/broken" <<EOF
#!/usr/bin/env bash
for word in "\$@"; do
  case \$word in
    run.device=cuda | cuda) set -- "\$@" --set optimizer.lr=1e-2 ;;
  esac
done
exec "$program" "\$@"
EOF
chmod +x "$folder/broken"
status=0
STRAND_TEST_GPU_COUNT=1 STRAND_TEST_GPU_EMULATED=$folder/broken bash "$script" --prebuilt "$folder/broken_run" \
  >"$folder/broken.out" 2>&1 || status=$?
[ "$status" = 1 ] || fail "exit status $status where checks fail"
expect "$folder/broken_run/report.txt" "FAILED   verify_fp32" "FAILED   losses_as_on_the_cpu" "         | " \
  "SKIPPED  nccl: one GPU"

echo "== no GPU"
mkdir "$folder/bin"
printf '#!/bin/sh\necho "No devices were found"\nexit 6\n' >"$folder/bin/nvidia-smi"
chmod +x "$folder/bin/nvidia-smi"
status=0
PATH=$folder/bin:$PATH bash "$script" --prebuilt "$folder/none" >"$folder/none.out" 2>&1 || status=$?
[ "$status" = 1 ] || fail "exit status $status without a GPU"
expect "$folder/none.out" "no NVIDIA GPU can be used; nvidia-smi says: No devices were found"
[ "$(wc -l <"$folder/none.out")" = 1 ] || { cat "$folder/none.out"; fail "more than one line without a GPU"; }
echo passed
