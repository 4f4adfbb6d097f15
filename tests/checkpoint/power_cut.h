#pragma once
// What a disk may hold after a power cut. PowerCutLayer lets every call through to the system and writes it down; a
// PowerCut then tells, for the moment after any of these calls, in which states the machine may find its files again:
//
//   - what was written to a file survives for certain when the file was synced since;
//   - that a name appeared, moved or went survives for certain when its directory was synced since;
//   - whatever was not synced may survive or not, each call for itself and in any order: file systems promise no more.
//
// A rename or an exchange is one step: it survives as a whole or not at all. Nothing waits for a real disk.
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/file_io.h"

namespace strand::test {

/// Every file with its bytes and every directory without, by path below the root.
using DiskState = std::map<std::string, std::optional<std::string>>;

class PowerCutLayer : public FileLayer {
 public:
  /// `root`: an existing directory; what it holds now is on the disk. Calls outside of it are not looked at.
  explicit PowerCutLayer(const std::string& root);

  int open(const std::string& path, int flags, mode_t mode) override;
  ssize_t write(int descriptor, const void* bytes, size_t count) override;
  ssize_t write_at(int descriptor, const void* bytes, size_t count, uint64_t offset) override;
  int fsync(int descriptor) override;
  int close(int descriptor) override;
  int give_name(int descriptor, const std::string& path) override;
  int rename(const std::string& from, const std::string& to) override;
  int exchange(const std::string& one, const std::string& other) override;
  int unlink(const std::string& path) override;
  int mkdir(const std::string& path, mode_t mode) override;
  int rmdir(const std::string& path) override;

  /// From here on, whoever looks at a state is told `what` (PowerCut::promise): what was promised to the user.
  void promise(int64_t what);

 private:
  friend class PowerCut;
  enum class Kind : uint8_t { write, sync_file, sync_directory, entries, promise };
  /// A name in a directory: what it means after the call, if it meant `before`. Node −1: nothing.
  struct Entry {
    int directory;
    std::string name;
    int before, after;
  };
  struct Call {
    Kind kind;
    int node = -1;                 ///< of write and syncs
    std::string bytes{};           ///< of the file after a write
    std::vector<Entry> entries{};  ///< of entries: all change in one step
    int64_t promise = 0;
  };
  struct Node {
    bool directory;
    std::string bytes;
    std::map<std::string, int> entries;
  };
  struct Place {
    int directory;
    std::string name;
  };
  struct OpenFile {
    int node;
    size_t offset;
    bool append;
  };

  bool watched(const std::string& path) const;
  Place place_of(const std::string& path);
  int node_at(const Place& place) const;
  int add_node(bool directory);
  void import(int directory, const std::string& path);
  void change(std::vector<Entry> entries);
  void written(const OpenFile& file, const void* bytes, size_t count, size_t offset);

  std::mutex mutex_;
  std::string root_;
  std::vector<Node> nodes_;
  std::map<int, OpenFile> open_;
  DiskState before_;
  std::vector<Node> initial_;
  std::vector<Call> calls_;
};

class PowerCut {
 public:
  explicit PowerCut(const PowerCutLayer& layer) : layer_(layer) {}

  /// look(state, call, promise) for the states that a cut after the first `call` calls can leave, each state once a
  /// promise: nothing unsynced survives, all does, each pending call alone, all but one, and files without the data
  /// that was not synced, with half of it and with all of it. `promise` is the last one that was made; −1 before the
  /// first.
  void for_each_state(const std::function<void(const DiskState&, size_t call, int64_t promise)>& look) const;
  size_t calls() const { return layer_.calls_.size(); }

 private:
  struct Disk;
  const PowerCutLayer& layer_;
};

/// Makes `directory` hold exactly this; it is emptied first.
void put_on_disk(const DiskState& state, const std::string& directory);

}  // namespace strand::test
