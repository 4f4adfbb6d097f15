#include "data/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "core/error.h"
#include "core/git_lfs.h"

namespace strand {

namespace {
constexpr size_t input_bytes = size_t{1} << 18;

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(const std::string& path) : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) fail_errno("open", path);
    try {
      check();
    } catch (...) {
      close(descriptor_);
      throw;
    }
  }
  ~PlainSource() override { close(descriptor_); }
  PlainSource(const PlainSource&) = delete;
  PlainSource& operator=(const PlainSource&) = delete;

  size_t read(char* out, size_t capacity) override {
    for (;;) {
      const ssize_t done = ::read(descriptor_, out, capacity);
      if (done >= 0) return static_cast<size_t>(done);
      if (errno != EINTR) fail_errno("read", path_);
    }
  }

 private:
  void check() const {
    struct stat status = {};
    require(fstat(descriptor_, &status) != 0 || !S_ISDIR(status.st_mode), "{} is a directory, not a text file", path_);
    char begin[lfs_pointer_begin.size()];
    const ssize_t bytes = pread(descriptor_, begin, sizeof begin, 0);  // a pipe has no such bytes
    if (bytes > 0) refuse_lfs_pointer({begin, static_cast<size_t>(bytes)}, path_);
  }

  std::string path_;
  int descriptor_;
};

// A buffer over the compressed file, which knows how far it has read.
class CompressedInput {
 public:
  explicit CompressedInput(const std::string& path) : path_(path), file_(path), buffer_(input_bytes) {}

  const char* data() const { return buffer_.data() + begin_; }
  size_t available() const { return end_ - begin_; }
  uint64_t offset() const { return read_ - available(); }  // in the file, of data()
  const std::string& path() const { return path_; }
  void consume(size_t bytes) { begin_ += bytes; }
  // Returns false at the end of the file.
  bool refill() {
    if (available() > 0) return true;
    begin_ = 0;
    end_ = file_.read(buffer_.data(), buffer_.size());
    read_ += end_;
    return end_ > 0;
  }

 private:
  std::string path_;
  PlainSource file_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t read_ = 0;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(const std::string& path) : input_(path) {
    constexpr int gzip_only = 15 + 16;  // largest window, gzip header and checksum required
    require(inflateInit2(&stream_, gzip_only) == Z_OK, "{}: cannot set up gzip decompression", path);
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  size_t read(char* out, size_t capacity) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(capacity);
    while (stream_.avail_out == capacity) {
      if (!input_.refill()) {
        if (first_byte_ != 0x1F && member_ > 0 && !ended_) fail_behind_member();
        require(ended_, "{}: the gzip stream breaks off at byte {}: the file is incomplete", input_.path(),
                input_.offset());
        return 0;
      }
      if (ended_) {  // after a member come zeros, or another member
        skip_zeros();
        if (input_.available() == 0) continue;
        inflateReset(&stream_);
        ended_ = false;
        member_ = input_.offset();
        first_byte_ = static_cast<unsigned char>(*input_.data());
      }
      step();
    }
    return capacity - stream_.avail_out;
  }

 private:
  // Tapes and other media that consist of blocks fill the last block with zeros. A member begins with another byte.
  void skip_zeros() {
    while (input_.available() > 0 && *input_.data() == '\0') input_.consume(1);
  }

  void step() {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input_.data()));
    stream_.avail_in = static_cast<uInt>(input_.available());
    const int result = inflate(&stream_, Z_NO_FLUSH);
    input_.consume(input_.available() - stream_.avail_in);
    if (result == Z_STREAM_END) {
      ended_ = true;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      if (stream_.total_in <= 2) {  // the two bytes with which every member begins are others
        require(member_ > 0, "{}: bad gzip data at byte 0: this is no gzip file, whatever its name says",
                input_.path());
        fail_behind_member();
      }
      fail("{}: bad gzip data near byte {}: {}", input_.path(), input_.offset(),
           stream_.msg != nullptr ? stream_.msg : zError(result));
    }
  }

  [[noreturn]] void fail_behind_member() const {
    fail(
        "{}: bad gzip data at byte {}: the gzip data ends there, and something else follows; cut it off, or compress "
        "the text again",
        input_.path(), member_);
  }

  CompressedInput input_;
  z_stream stream_ = {};
  uint64_t member_ = 0;           // the byte at which the member begins that is being read
  unsigned char first_byte_ = 0;  // of that member, where it is not the first one
  bool ended_ = false;  // whether a member has ended; false at the start, so that an empty file counts as incomplete
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(const std::string& path) : input_(path), context_(ZSTD_createDCtx()) {
    require(context_ != nullptr, "{}: cannot set up zstd decompression", path);
    // The library's own limit is 128 MiB; files made with --long or --ultra ask for more.
    const ZSTD_bounds bounds = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax);
    ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, bounds.upperBound);
  }
  ~ZstdSource() override { ZSTD_freeDCtx(context_); }
  ZstdSource(const ZstdSource&) = delete;
  ZstdSource& operator=(const ZstdSource&) = delete;

  size_t read(char* out, size_t capacity) override {
    ZSTD_outBuffer target = {out, capacity, 0};
    while (target.pos == 0) {
      // Output that did not fit into the buffer last time is still in the context, and needs no further input.
      if (!output_pending_ && !input_.refill()) {
        require(expected_ == 0, "{}: the zstd stream breaks off at byte {}: the file is incomplete", input_.path(),
                input_.offset());
        return 0;
      }
      if (expected_ == 0) frame_ = input_.offset();
      ZSTD_inBuffer source = {input_.data(), input_.available(), 0};
      expected_ = ZSTD_decompressStream(context_, &target, &source);
      if (ZSTD_isError(expected_) != 0) fail_to_decompress();
      input_.consume(source.pos);
      output_pending_ = target.pos == target.size && expected_ != 0;
    }
    return target.pos;
  }

 private:
  [[noreturn]] void fail_to_decompress() const {
    switch (ZSTD_getErrorCode(expected_)) {
      case ZSTD_error_frameParameter_windowTooLarge:
        fail(
            "{}: near byte {} is a zstd frame with a window of more than 2 GiB, which no reader accepts; compress it "
            "again with a smaller one",
            input_.path(), input_.offset());
      case ZSTD_error_memory_allocation:
        fail("{}: near byte {} is a zstd frame that asks for a larger window than there is memory for", input_.path(),
             input_.offset());
      case ZSTD_error_prefix_unknown:
        require(frame_ > 0, "{}: bad zstd data at byte 0: this is no zstd file, whatever its name says", input_.path());
        fail(
            "{}: bad zstd data at byte {}: the zstd data ends there, and something else follows; cut it off, or "
            "compress the text again",
            input_.path(), frame_);
      default:
        fail("{}: bad zstd data near byte {}: {}", input_.path(), input_.offset(), ZSTD_getErrorName(expected_));
    }
  }

  CompressedInput input_;
  ZSTD_DCtx* context_;
  size_t expected_ = 1;  // 0 at the end of a frame only; so an empty file counts as incomplete
  uint64_t frame_ = 0;   // the byte at which the frame begins that is being read
  bool output_pending_ = false;
};
}  // namespace

std::string without_compression_suffix(const std::string& path) {
  for (const std::string suffix : {".gz", ".zst"}) {
    if (path.ends_with(suffix)) return path.substr(0, path.size() - suffix.size());
  }
  return path;
}

std::unique_ptr<ByteSource> open_byte_source(const std::string& path) {
  if (path.ends_with(".gz")) return std::make_unique<GzipSource>(path);
  if (path.ends_with(".zst")) return std::make_unique<ZstdSource>(path);
  return std::make_unique<PlainSource>(path);
}

}  // namespace strand
