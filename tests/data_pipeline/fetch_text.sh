#!/usr/bin/env bash
# data_tools/fetch_text.sh on a package that is made here, with an apt-get that gives it: text, held-out part, manifest.
#
#   fetch_text.sh SOURCES
set -euo pipefail
sources=$1
command -v dpkg-deb >/dev/null || { echo "SKIPPED: fetch_text.sh needs Debian's dpkg-deb"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
fail() { echo "FAILED: $*"; exit 1; }

# A page: what stands outside of the main part, tags, entities and scripts do not count.
cat >"$work/page.html" <<'PAGE'
<html><head><title>no</title><style>p{}</style></head><body><p>before</p><div role="main"><h1>A &amp; B<a class="headerlink" href="#">&para;</a></h1>
<p>One  two
three.</p><p></p><p></p><pre>x = 1
  y = 2

z</pre><p>&#8217; caf&#233; &lt;&unknown;</p><script>if (a) bad()</script><ul><li>a</li><li>b<br>c</li></ul></div><div class="sphinxsidebar">after</div></body></html>
PAGE
printf 'A & B\n\nOne two three.\n\nx = 1\n  y = 2\n\nz\n\n’ café <&unknown;\n\na\n\nb\nc\n' >"$work/expected"
LC_ALL=C awk -v begin='role="main"' -v end='class="sphinxsidebar"' -f "$sources/data_tools/html.awk" "$work/page.html" >"$work/found"
diff "$work/expected" "$work/found" || fail "html.awk"

# A package wordnet-base of 4 x 12,500 glosses, 25 files of 500 a part.
mkdir -p "$work/package/DEBIAN" "$work/package/usr/share/wordnet" "$work/bin"
for part in adj adv noun verb; do
  { echo '  1 a line of the licence'
    seq 12500 | awk -v part=$part '{ printf "%08d 03 n 01 word 0 001 @ 00001930 n 0000 | gloss %d of %s; \"an example\"  \n", $1, $1, part }'
  } >"$work/package/usr/share/wordnet/data.$part"
done
printf 'Package: wordnet-base\nVersion: 1:3.0-1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: test\n' \
  >"$work/package/DEBIAN/control"
dpkg-deb -Zgzip -b "$work/package" "$work/wordnet.deb" >/dev/null
cat >"$work/bin/apt-get" <<APT
#!/bin/sh
case "\$*" in *"download wordnet-base"*) cp "$work/wordnet.deb" . ;; *) exit 100 ;; esac
APT
chmod 755 "$work/bin/apt-get"
export PATH="$work/bin:$PATH"

fetch() { "$sources/data_tools/fetch_text.sh" "$@" >"$work/said" 2>&1; }
fetch --hold-out "$work/text" wordnet || { cat "$work/said"; fail "it does not fetch"; }
cd "$work/text"
[ "$(find wordnet -name '*.txt' | wc -l)" = 96 ] || fail "$(find wordnet -name '*.txt' | wc -l) files and not 96"
[ "$(cd wordnet-held-out && echo *.txt)" = "adj-012.txt adv-012.txt noun-012.txt verb-012.txt" ] || fail "held out: $(ls wordnet-held-out)"
# Nothing is lost, nothing is twice, and only glosses are there.
for part in adj adv noun verb; do seq -f "gloss %.0f of $part; \"an example\"" 12500; done | sort >"$work/all"
cat wordnet/*.txt wordnet-held-out/*.txt | sort | cmp - "$work/all" || fail "the glosses are others"
deb=$(sha256sum <"$work/wordnet.deb" | cut -d ' ' -f 1)
[ "$(grep -c "\"package\": \"wordnet-base\", \"version\": \"1:3.0-1\", \"sha256\": \"$deb\"" .manifest.json)" = 2 ] ||
  { cat .manifest.json; fail "the manifest"; }
if command -v python3 >/dev/null; then python3 -m json.tool .manifest.json >/dev/null || fail "the manifest is no JSON"; fi

fetch --hold-out "$work/text" wordnet && grep -q "already there" "$work/said" || fail "it fetches again"
echo spoiled >>wordnet/noun-003.txt
fetch --hold-out "$work/text" wordnet && ! grep -q spoiled wordnet/noun-003.txt || fail "a spoiled file stays"
fetch "$work/text" wordnet && fail "a text with a held-out part passes for a whole one"
grep -q "was fetched with --hold-out" "$work/said" || fail "it does not say why: $(cat "$work/said")"
fetch "$work/whole" wordnet && [ "$(find "$work/whole/wordnet" -name '*.txt' | wc -l)" = 100 ] || fail "without --hold-out"
! fetch "$work/whole" nothing && grep -q "unknown source 'nothing'" "$work/said" || fail "an unknown source"
[ -z "$(find "$work/text" "$work/whole" -name '.fetch.*')" ] || fail "it leaves something behind"
echo "fetch_text.sh and html.awk do what they say"
