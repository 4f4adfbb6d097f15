#pragma once
// Documents of a text file, as TextReader gives them.
#include <string>
#include <vector>

#include "data/text_reader.h"
#include "files.h"

namespace strand_test {

using strand::Document;
using strand::TextOptions;
using strand::TextReader;
using Texts = std::vector<std::string>;

inline std::vector<Document> read_documents(const std::string& path, TextOptions options = {}) {
  TextReader reader(path, options);
  std::vector<Document> documents;
  Document document;
  while (reader.next(document)) documents.push_back(document);
  return documents;
}

inline Texts texts(const std::string& path, TextOptions options = {}) {
  Texts result;
  for (const Document& document : read_documents(path, options)) result.push_back(document.text);
  return result;
}

}  // namespace strand_test
