# Markdown to plain text: paragraphs unwrapped to one line each, links to their words, emphasis and quote marks dropped.

function end_paragraph() {
  if (paragraph ~ /Go to (previous|next) page/) paragraph = ""  # navigation
  gsub(/\]\([^)]*\)/, "]", paragraph)
  gsub(/\*\*/, "", paragraph)
  gsub(/_"/, "\"", paragraph)
  gsub(/"_/, "\"", paragraph)
  gsub(/[ \t]+/, " ", paragraph)
  sub(/^ /, "", paragraph)
  sub(/ $/, "", paragraph)
  if (paragraph != "") print paragraph
  paragraph = ""
}

{ sub(/^(> ?)+/, "") }
/^[ \t]*$/ { end_paragraph(); next }
/^ *(#|[*] |[0-9]+[.)] )/ { end_paragraph() }
{ paragraph = paragraph " " $0 }
END { end_paragraph() }
