#include "power_cut.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "core/error.h"

namespace strand::test {

namespace fs = std::filesystem;

namespace {
constexpr int nothing = -1;
constexpr int root_node = 0;

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
}  // namespace

// ---- writing down -------------------------------------------------------------------------------------------------

PowerCutLayer::PowerCutLayer(const std::string& root) : root_(fs::absolute(root).lexically_normal().string()) {
  add_node(true);
  import(root_node, root_);
  initial_ = nodes_;
}

void PowerCutLayer::import(int directory, const std::string& path) {
  for (const auto& entry : fs::directory_iterator(path)) {
    const int node = add_node(entry.is_directory());
    nodes_[size_t(directory)].entries[entry.path().filename().string()] = node;
    if (entry.is_directory()) {
      import(node, entry.path().string());
    } else {
      nodes_[size_t(node)].bytes = bytes_of(entry.path());
    }
  }
}

int PowerCutLayer::add_node(bool directory) {
  nodes_.push_back({directory, {}, {}});
  return static_cast<int>(nodes_.size()) - 1;
}

bool PowerCutLayer::watched(const std::string& path) const {
  return fs::absolute(path).lexically_normal().string().starts_with(root_);
}

/// A directory that was made behind this layer's back is one that nobody syncs.
PowerCutLayer::Place PowerCutLayer::place_of(const std::string& path) {
  const fs::path below = fs::absolute(path).lexically_normal().lexically_relative(root_);
  int directory = root_node;
  for (const fs::path& part : below.parent_path()) {
    int next = node_at({directory, part.string()});
    if (next == nothing) {
      next = add_node(true);
      change({{directory, part.string(), nothing, next}});
    }
    directory = next;
  }
  return {directory, below.filename().string()};
}

int PowerCutLayer::node_at(const Place& place) const {
  if (place.name.empty() || place.name == ".") return place.directory;
  const auto& entries = nodes_[size_t(place.directory)].entries;
  const auto found = entries.find(place.name);
  return found == entries.end() ? nothing : found->second;
}

void PowerCutLayer::change(std::vector<Entry> entries) {
  for (const Entry& e : entries) {
    auto& names = nodes_[size_t(e.directory)].entries;
    if (e.after == nothing) {
      names.erase(e.name);
    } else {
      names[e.name] = e.after;
    }
  }
  calls_.push_back({.kind = Kind::entries, .entries = std::move(entries)});
}

int PowerCutLayer::open(const std::string& path, int flags, mode_t mode) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int descriptor = FileLayer::open(path, flags, mode);
  if (descriptor < 0 || !watched(path)) return descriptor;
  if ((flags & O_TMPFILE) == O_TMPFILE) {
    open_[descriptor] = {add_node(false), 0, false};
    return descriptor;
  }
  const Place place = place_of(path);
  int node = node_at(place);
  if (node == nothing) {
    node = add_node((flags & O_DIRECTORY) != 0);
    change({{place.directory, place.name, nothing, node}});
  } else if ((flags & O_TRUNC) != 0 && !nodes_[size_t(node)].bytes.empty()) {
    nodes_[size_t(node)].bytes.clear();
    calls_.push_back({.kind = Kind::write, .node = node});
  }
  open_[descriptor] = {node, 0, (flags & O_APPEND) != 0};
  return descriptor;
}

ssize_t PowerCutLayer::write(int descriptor, const void* bytes, size_t count) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const ssize_t done = FileLayer::write(descriptor, bytes, count);
  const auto found = open_.find(descriptor);
  if (done <= 0 || found == open_.end()) return done;
  OpenFile& file = found->second;
  if (file.append) file.offset = nodes_[size_t(file.node)].bytes.size();
  written(file, bytes, size_t(done), file.offset);
  file.offset += size_t(done);
  return done;
}

ssize_t PowerCutLayer::write_at(int descriptor, const void* bytes, size_t count, uint64_t offset) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const ssize_t done = FileLayer::write_at(descriptor, bytes, count, offset);
  const auto found = open_.find(descriptor);
  if (done > 0 && found != open_.end()) written(found->second, bytes, size_t(done), offset);
  return done;
}

void PowerCutLayer::written(const OpenFile& file, const void* bytes, size_t count, size_t offset) {
  std::string& all = nodes_[size_t(file.node)].bytes;
  all.resize(std::max(all.size(), offset + count));
  std::copy_n(static_cast<const char*>(bytes), count, all.begin() + static_cast<ptrdiff_t>(offset));
  calls_.push_back({.kind = Kind::write, .node = file.node, .bytes = all});
}

int PowerCutLayer::give_name(int descriptor, const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int result = FileLayer::give_name(descriptor, path);
  const auto found = open_.find(descriptor);
  if (result != 0 || found == open_.end()) return result;
  const Place place = place_of(path);
  change({{place.directory, place.name, nothing, found->second.node}});
  return result;
}

int PowerCutLayer::fsync(int descriptor) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = open_.find(descriptor);
  if (found == open_.end()) return FileLayer::fsync(descriptor);
  const int node = found->second.node;
  calls_.push_back({.kind = nodes_[size_t(node)].directory ? Kind::sync_directory : Kind::sync_file, .node = node});
  return 0;
}

int PowerCutLayer::close(int descriptor) {
  const std::lock_guard<std::mutex> lock(mutex_);
  open_.erase(descriptor);
  return FileLayer::close(descriptor);
}

int PowerCutLayer::rename(const std::string& from, const std::string& to) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int result = FileLayer::rename(from, to);
  if (result != 0 || !watched(from)) return result;
  const Place one = place_of(from), other = place_of(to);
  const int node = node_at(one);
  require(node != nothing, "{} is renamed, but was not made through the file layer", from);
  change({{one.directory, one.name, node, nothing}, {other.directory, other.name, node_at(other), node}});
  return result;
}

int PowerCutLayer::exchange(const std::string& one, const std::string& other) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int result = FileLayer::exchange(one, other);
  if (result != 0 || !watched(one)) return result;
  const Place a = place_of(one), b = place_of(other);
  const int first = node_at(a), second = node_at(b);
  change({{a.directory, a.name, first, second}, {b.directory, b.name, second, first}});
  return result;
}

int PowerCutLayer::unlink(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int result = FileLayer::unlink(path);
  if (result != 0 || !watched(path)) return result;
  const Place place = place_of(path);
  if (const int node = node_at(place); node != nothing) change({{place.directory, place.name, node, nothing}});
  return result;
}

int PowerCutLayer::mkdir(const std::string& path, mode_t mode) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int result = FileLayer::mkdir(path, mode);
  if (result != 0 || !watched(path)) return result;
  const Place place = place_of(path);
  change({{place.directory, place.name, nothing, add_node(true)}});
  return result;
}

int PowerCutLayer::rmdir(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int result = FileLayer::rmdir(path);
  if (result != 0 || !watched(path)) return result;
  const Place place = place_of(path);
  if (const int node = node_at(place); node != nothing) change({{place.directory, place.name, node, nothing}});
  return result;
}

void PowerCutLayer::promise(int64_t what) {
  const std::lock_guard<std::mutex> lock(mutex_);
  calls_.push_back({.kind = Kind::promise, .promise = what});
}

// ---- what may be left ---------------------------------------------------------------------------------------------

/// What is on the disk for certain, and which calls are pending.
struct PowerCut::Disk {
  using Call = PowerCutLayer::Call;
  using Node = PowerCutLayer::Node;
  enum class Data : uint8_t { lost, half, kept };

  std::vector<Node> durable;
  std::vector<std::string> written;  ///< bytes of each file with what is not synced
  std::vector<const Call*> pending;  ///< changes of entries, in order

  Disk(const std::vector<Node>& initial, size_t nodes) : durable(initial) {
    durable.resize(nodes, {true, {}, {}});
    for (const Node& node : durable) written.push_back(node.bytes);
  }

  static void apply(const Call& call, std::vector<Node>& nodes) {
    for (const auto& e : call.entries) {
      auto& names = nodes[size_t(e.directory)].entries;
      if (e.after != nothing) {
        names[e.name] = e.after;
      } else if (const auto found = names.find(e.name); found != names.end() && found->second == e.before) {
        names.erase(found);
      }
    }
  }

  void take(const Call& call) {
    using Kind = PowerCutLayer::Kind;
    if (call.kind == Kind::write) written[size_t(call.node)] = call.bytes;
    if (call.kind == Kind::sync_file) durable[size_t(call.node)].bytes = written[size_t(call.node)];
    if (call.kind == Kind::entries) pending.push_back(&call);
    if (call.kind != Kind::sync_directory) return;
    const auto waits = [&](const Call* p) {
      return std::none_of(p->entries.begin(), p->entries.end(),
                          [&](const auto& e) { return e.directory == call.node; });
    };
    for (const Call* p : pending)
      if (!waits(p)) apply(*p, durable);
    std::erase_if(pending, [&](const Call* p) { return !waits(p); });
  }

  void list(const std::vector<Node>& nodes, int node, const std::string& path, Data data, DiskState& state) const {
    for (const auto& [name, child] : nodes[size_t(node)].entries) {
      const std::string at = path.empty() ? name : path + "/" + name;
      const Node& n = nodes[size_t(child)];
      if (n.directory) {
        state[at] = std::nullopt;
        list(nodes, child, at, data, state);
        continue;
      }
      const std::string& now = written[size_t(child)];
      if (now == n.bytes || data == Data::lost) {
        state[at] = n.bytes;
      } else {
        state[at] = data == Data::kept ? now : now.substr(0, (n.bytes.size() + now.size()) / 2);
      }
    }
  }

  template <typename Survives>
  DiskState after_cut(const Survives& survives, Data data) const {
    std::vector<Node> nodes = durable;
    for (size_t i = 0; i < pending.size(); ++i)
      if (survives(i)) apply(*pending[i], nodes);
    DiskState state;
    list(nodes, root_node, "", data, state);
    return state;
  }
};

void PowerCut::for_each_state(
    const std::function<void(const DiskState& state, size_t call, int64_t promise)>& look) const {
  // Nodes are files unless they are known as directories.
  Disk disk(layer_.initial_, layer_.nodes_.size());
  for (size_t i = 0; i < layer_.nodes_.size(); ++i) disk.durable[i].directory = layer_.nodes_[i].directory;
  int64_t promise = -1;
  std::set<size_t> seen;
  const auto look_once = [&](const DiskState& state, size_t call) {
    size_t hash = std::hash<int64_t>{}(promise);
    for (const auto& [path, bytes] : state) {
      hash = hash * 1000003 + std::hash<std::string>{}(path);
      hash = hash * 1000003 + (bytes ? std::hash<std::string>{}(*bytes) + 1 : 0);
    }
    if (seen.insert(hash).second) look(state, call, promise);
  };
  const auto look_at_all = [&](size_t call) {
    for (const Disk::Data data : {Disk::Data::lost, Disk::Data::half, Disk::Data::kept}) {
      look_once(disk.after_cut([](size_t) { return false; }, data), call);
      look_once(disk.after_cut([](size_t) { return true; }, data), call);
      for (size_t one = 0; one < disk.pending.size(); ++one) {
        look_once(disk.after_cut([&](size_t i) { return i == one; }, data), call);
        look_once(disk.after_cut([&](size_t i) { return i != one; }, data), call);
      }
    }
  };
  look_at_all(0);
  for (size_t i = 0; i < layer_.calls_.size(); ++i) {
    disk.take(layer_.calls_[i]);
    if (layer_.calls_[i].kind == PowerCutLayer::Kind::promise) promise = layer_.calls_[i].promise;
    look_at_all(i + 1);
  }
}

void put_on_disk(const DiskState& state, const std::string& directory) {
  fs::remove_all(directory);
  fs::create_directories(directory);
  for (const auto& [path, bytes] : state) {  // a directory comes before what it holds
    const fs::path at = fs::path(directory) / path;
    if (bytes) {
      std::ofstream(at, std::ios::binary) << *bytes;
    } else {
      fs::create_directory(at);
    }
  }
}

}  // namespace strand::test
