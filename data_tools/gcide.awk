# The dictionary GCIDE, as `zcat gcide.dict.dz` prints it, to JSON lines of about `document_bytes` each.
#
# An entry begins at the left margin with "Headword \pronunciation\, class."; everything under it is indented and wrapped.
# Here an entry becomes one line a paragraph: unwrapped, without the pronunciation, the marks of which edition a paragraph
# is from, and the braces of cross references. The text must be ASCII; then JSON needs two escapes besides the newline.

BEGIN {
  if (!document_bytes) document_bytes = 4000
}

function end_paragraph() {
  gsub(/\[[^]]*(Webster|WordNet|PJC|Century Dict)[^]]*\]/, "", paragraph)
  if (headword) {
    gsub(/ *\\[^\\]*\\/, "", paragraph)
    gsub(/ \([^()]*[][*"`][^()]*\)/, "", paragraph)  # further pronunciations
  }
  headword = 0
  gsub(/[{}]/, "", paragraph)
  gsub(/[ \t]+/, " ", paragraph)
  sub(/^ /, "", paragraph)
  sub(/ $/, "", paragraph)
  if (paragraph != "") text = text paragraph "\n"
  paragraph = ""
}

function end_document() {
  if (text == "") return
  gsub(/\\/, "\\\\\\\\", text)  # awk halves them twice
  gsub(/"/, "\\\"", text)
  gsub(/\n/, "\\n", text)
  gsub(/[\001-\037\177]/, " ", text)
  print "{\"text\":\"" text "\"}"
  text = ""
}

/^[^ ].*\\.*\\/ { entries = 1 }

entries && /^[^ ]/ {
  if (headword) {  # a second spelling under the first
    paragraph = paragraph " " $0
    next
  }
  end_paragraph()
  if (length(text) >= document_bytes) end_document()
  headword = 1
  if (text != "") text = text "\n"
  paragraph = $0
  next
}

!entries { next }  # the licence and preface before the first entry
/^[ \t]*$/ { end_paragraph(); next }
{ paragraph = paragraph " " $0 }

END {
  end_paragraph()
  end_document()
}
