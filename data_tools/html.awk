# An HTML page as text: blocks on lines of their own, <pre> as it is, without scripts, styles, navigation and tags.
#
#   awk -v begin=REGEX -v end=REGEX -f html.awk PAGE.html
#
# Text counts from the first tag that matches `begin` to the first one after it that matches `end`; both may be empty.
# Bytes are bytes: set LC_ALL=C.

# A character by its number, in UTF-8.
function utf8(n) {
  if (n < 128) return sprintf("%c", n)
  if (n < 2048) return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64)
  if (n < 65536) return sprintf("%c%c%c", 224 + int(n / 4096), 128 + int(n / 64) % 64, 128 + n % 64)
  return sprintf("%c%c%c%c", 240 + int(n / 262144), 128 + int(n / 4096) % 64, 128 + int(n / 64) % 64, 128 + n % 64)
}

function decoded(text,    out, at, name) {
  out = ""
  while (match(text, /&#?[a-zA-Z0-9]+;/)) {
    name = substr(text, RSTART + 1, RLENGTH - 2)
    out = out substr(text, 1, RSTART - 1)
    text = substr(text, RSTART + RLENGTH)
    if (name in entity) out = out entity[name]
    else if (name ~ /^#[0-9]+$/) out = out utf8(substr(name, 2) + 0)
    else out = out "&" name ";"
  }
  return out text
}

# Ends the line that is being made; blank lines do not follow one another.
function put(    text) {
  text = line
  line = ""
  sub(/[ \t\r]+$/, "", text)
  if (text ~ /^ [^ ]/) sub(/^ /, "", text)
  if (text == "" && last == "") return
  if (text == "") { blank = 1; return }
  if (blank) print ""
  blank = 0
  print text
  last = text
}

function emit(text,    n, i, parts) {
  n = split(text, parts, "\n")
  for (i = 1; i < n; ++i) {
    line = line parts[i]
    put()
  }
  if (n > 0) line = line parts[n]
}

BEGIN {
  RS = "<"
  entity["lt"] = "<"; entity["gt"] = ">"; entity["amp"] = "&"; entity["quot"] = "\""; entity["nbsp"] = " "; entity["#160"] = " "
  entity["ndash"] = "–"; entity["mdash"] = "—"; entity["hellip"] = "…"; entity["rsquo"] = "’"; entity["lsquo"] = "‘"
  entity["rdquo"] = "”"; entity["ldquo"] = "“"; entity["copy"] = "©"; entity["para"] = ""; entity["times"] = "×"
  split("p div h1 h2 h3 h4 h5 h6 li ul ol dl dt dd table tr section pre blockquote br hr figure", names, " ")
  for (i in names) block[names[i]] = block["/" names[i]] = 1
  started = begin == ""
}

NR == 1 { next } # before the first tag

{
  close_at = index($0, ">")
  if (!close_at) next
  tag = tolower(substr($0, 1, close_at - 1))
  text = substr($0, close_at + 1)
  name = tag
  sub(/[ \t\r\n].*/, "", name)
  if (name != "/" ) sub(/\/$/, "", name)
  if (!started) {
    if (tag !~ begin) next
    started = 1
  } else if (end != "" && tag ~ end) {
    exit
  }
  if (skip != "") {
    if (name != "/" skip) next
    skip = ""
  } else if (name == "script" || name == "style" || name == "nav" || name == "head" || name == "math") {
    skip = name
    next
  }
  if (name == "pre") pre = 1
  if (name == "/pre") pre = 0
  if (name in block) put()
  if (tag ~ /class="headerlink"/) next
  if (!pre) gsub(/[ \t\r\n]+/, " ", text)
  emit(decoded(text))
}

END { put() }
