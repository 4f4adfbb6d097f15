#include "run_report/heat_map.h"

#include <fmt/core.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "core/error.h"
#include "run_report/text.h"

namespace strand::run_report {

namespace {
constexpr size_t most_drawn_cells = 64 * 64;   ///< as rectangles; above, as a picture
constexpr size_t most_titled_cells = 32 * 32;  ///< that tell their value where a mouse is over them
constexpr double label_width = 64, most_width = 560;

struct Shade {
  bool high = true;   ///< above the neutral value
  double amount = 0;  ///< 0 .. 1
};

Shade shade_of(const HeatMap& map, double value) {
  if (map.full > 0) return {true, std::clamp(value / map.full, 0.0, 1.0)};
  const double log = value > 0 ? std::log2(value) : -2;
  return {log >= 0, std::min(1.0, std::abs(log) / 2)};
}

std::string scale_html(const HeatMap& map) {
  if (map.full > 0)
    return fmt::format("<p class=\"scale\"><span>0</span><i class=\"ramp\"></i><span>{}</span></p>",
                       number_text(map.full, 3));
  return "<p class=\"scale\"><span>¼ or less</span><i class=\"ramp two\"></i><span>4 or more</span></p>";
}

std::string rectangles(const HeatMap& map, double cell_width, double cell_height) {
  std::string svg;
  const bool titles = map.values.size() * map.values.front().size() <= most_titled_cells;
  for (size_t i = 0; i < map.values.size(); ++i) {
    for (size_t j = 0; j < map.values[i].size(); ++j) {
      const double value = map.values[i][j];
      const std::string place = fmt::format("x=\"{:.4g}\" y=\"{:.4g}\" width=\"{:.4g}\" height=\"{:.4g}\"",
                                            label_width + static_cast<double>(j) * cell_width,
                                            static_cast<double>(i) * cell_height, cell_width, cell_height);
      const Shade shade = shade_of(map, value);
      const std::string paint = std::isfinite(value) ? fmt::format("class=\"{}\" fill-opacity=\"{:.2f}\"",
                                                                   shade.high ? "hi" : "lo", shade.amount)
                                                     : "class=\"no\"";
      if (titles)
        svg += fmt::format("<rect {} {}><title>{} {}, {} {}: {}</title></rect>", paint, place, map.row_word,
                           escaped(map.row_names[i]), map.column_word, j, number_text(value));
      else
        svg += fmt::format("<rect {} {}/>", paint, place);
    }
  }
  return svg;
}

std::string pixels(const HeatMap& map, double width, double height) {
  const size_t rows = map.values.size(), columns = map.values.front().size();
  std::vector<unsigned char> rgba;
  rgba.reserve(rows * columns * 4);
  for (const std::vector<double>& row : map.values) {
    for (const double value : row) {
      const Shade shade = shade_of(map, value);
      std::array<unsigned char, 4> pixel = {128, 128, 128, 90};
      if (std::isfinite(value)) {
        pixel =
            shade.high ? std::array<unsigned char, 4>{217, 95, 30, 0} : std::array<unsigned char, 4>{37, 99, 168, 0};
        pixel[3] = static_cast<unsigned char>(std::lround(255 * shade.amount));
      }
      rgba.insert(rgba.end(), pixel.begin(), pixel.end());
    }
  }
  return fmt::format(
      "<image class=\"pixels\" x=\"{}\" y=\"0\" width=\"{:.4g}\" height=\"{:.4g}\" preserveAspectRatio=\"none\" "
      "href=\"data:image/png;base64,{}\"/>",
      label_width, width, height, base64(png_of(rgba, columns, rows)));
}

void append_big_endian(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

void append_chunk(std::string& png, const std::string& kind, const std::string& data) {
  append_big_endian(png, static_cast<uint32_t>(data.size()));
  const std::string body = kind + data;
  png += body;
  append_big_endian(png, static_cast<uint32_t>(
                             crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))));
}
}  // namespace

std::string png_of(const std::vector<unsigned char>& rgba, size_t width, size_t height) {
  std::string rows;
  for (size_t y = 0; y < height; ++y) {
    rows += '\0';  // no filter
    rows.append(reinterpret_cast<const char*>(rgba.data()) + y * width * 4, width * 4);
  }
  uLongf size = compressBound(rows.size());
  std::string packed(size, '\0');
  require(compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(rows.data()),
                    rows.size(), Z_BEST_COMPRESSION) == Z_OK,
          "zlib could not compress a picture of {} bytes", rows.size());
  packed.resize(size);
  std::string png = "\x89PNG\r\n\x1a\n", header;
  append_big_endian(header, static_cast<uint32_t>(width));
  append_big_endian(header, static_cast<uint32_t>(height));
  header += std::string("\x08\x06\x00\x00\x00",
                        5);  // 8 bits, RGBA, the only ways of compression and filtering, not interlaced
  append_chunk(png, "IHDR", header);
  append_chunk(png, "IDAT", packed);
  append_chunk(png, "IEND", "");
  return png;
}

std::string base64(const std::string& bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) out += i + j > bytes.size() ? '=' : digits[group >> (18 - 6 * j) & 63];
  }
  return out;
}

std::string heat_map_html(const HeatMap& map) {
  if (map.values.empty() || map.values.front().empty())
    return fmt::format("<figure><figcaption>{}</figcaption><p class=\"none\">Nothing to show.</p></figure>",
                       escaped(map.title));
  const auto rows = static_cast<double>(map.values.size()), columns = static_cast<double>(map.values.front().size());
  const double cell_width = (most_width - label_width) / columns;
  const double cell_height = std::min(cell_width, rows == columns ? cell_width : 26.0);
  const double width = cell_width * columns, height = cell_height * rows, below = 18;
  std::string svg = fmt::format("<svg class=\"map\" viewBox=\"0 0 {} {:.4g}\" role=\"img\" aria-label=\"{}\">",
                                most_width, height + below, escaped(map.title));
  const size_t cells = map.values.size() * map.values.front().size();
  svg += cells > most_drawn_cells ? pixels(map, width, height) : rectangles(map, cell_width, cell_height);
  const size_t every = static_cast<size_t>(std::ceil(11 / cell_height)),
               across = static_cast<size_t>(std::ceil(22 / cell_width));
  for (size_t i = 0; i < map.values.size(); i += every)
    svg += fmt::format("<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.4g}\">{}</text>", label_width - 5,
                       (static_cast<double>(i) + 0.5) * cell_height + 3.5, escaped(map.row_names[i]));
  for (size_t j = 0; j < map.values.front().size(); j += across)
    svg += fmt::format("<text class=\"tick\" text-anchor=\"middle\" x=\"{:.4g}\" y=\"{:.4g}\">{}</text>",
                       label_width + (static_cast<double>(j) + 0.5) * cell_width, height + 13, j);
  svg += "</svg>";
  return fmt::format(
      "<figure class=\"heat\"><figcaption>{}</figcaption>{}<p class=\"axes\">rows: {}, columns: {}</p>{}{}</figure>",
      escaped(map.title), svg, map.row_word, map.column_word, scale_html(map),
      map.note.empty() ? "" : "<p class=\"note\">" + escaped(map.note) + "</p>");
}

std::string bars_html(const Bars& bars) {
  constexpr double row = 20, names_width = 150, room = 340;
  double most = bars.reference;
  for (const double value : bars.values) most = std::max(most, value);
  if (most <= 0) most = 1;
  const double height = row * static_cast<double>(bars.values.size());
  std::string svg = fmt::format("<svg class=\"bars\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", most_width,
                                height, escaped(bars.title));
  for (size_t i = 0; i < bars.values.size(); ++i) {
    const double y = row * static_cast<double>(i), length = std::max(0.0, bars.values[i]) / most * room;
    svg += fmt::format(
        "<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text><rect class=\"bar\" x=\"{}\" y=\"{}\" "
        "width=\"{:.1f}\" height=\"{}\"/><text class=\"tick\" x=\"{:.1f}\" y=\"{}\">{}</text>",
        names_width - 6, y + 14, escaped(bars.names[i]), names_width, y + 3, length, row - 6, names_width + length + 5,
        y + 14, number_text(bars.values[i]));
  }
  if (bars.reference > 0)
    svg += fmt::format("<path class=\"reference\" d=\"M{:.1f} 0V{}\"/>", names_width + bars.reference / most * room,
                       height);
  return fmt::format("<figure><figcaption>{}</figcaption>{}</svg>{}</figure>", escaped(bars.title), svg,
                     bars.note.empty() ? "" : "<p class=\"note\">" + escaped(bars.note) + "</p>");
}

}  // namespace strand::run_report
