#!/usr/bin/env bash
# Holds docs/configuration.md equal to what scripts/make_configuration_page.sh makes of the program's keys.
#
#   configuration_page.sh STRAND SOURCES
set -euo pipefail
page=$(mktemp)
trap 'rm -f "$page"' EXIT
cp "$2/docs/configuration.md" "$page"
"$2/scripts/make_configuration_page.sh" "$1" "$page"
diff -u "$2/docs/configuration.md" "$page" || {
  echo "FAILED: docs/configuration.md is not what the program says; run scripts/make_configuration_page.sh"
  exit 1
}
