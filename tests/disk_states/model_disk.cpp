#include "model_disk.h"

#include <fcntl.h>

#include <algorithm>
#include <set>
#include <stdexcept>

#include "lathe/files.h"

namespace lathe::test {
namespace {

constexpr std::size_t kSector = 512;

std::uint64_t below(std::mt19937_64& random, std::uint64_t limit) {
  return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random);
}

void put(std::string& bytes, std::uint64_t offset, std::string_view data) {
  if (bytes.size() < offset + data.size()) bytes.resize(offset + data.size(), '\0');
  bytes.replace(offset, data.size(), data);
}

// Each sector of `after` as it is there, or as it was before.
std::string some_sectors(const std::string& before, const std::string& after,
                         std::mt19937_64& random) {
  std::string result = after;
  for (std::size_t at = 0; at < after.size(); at += kSector) {
    if (below(random, 2) == 0) continue;
    for (std::size_t i = at; i < std::min(at + kSector, after.size()); ++i) {
      result[i] = i < before.size() ? before[i] : '\0';
    }
  }
  return result;
}

}  // namespace

void write_state(const DiskState& state, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const auto& [path, entry] : state) {
    switch (entry.kind) {
      case DiskEntry::Kind::file:
        OutputFile(folder / path).write(entry.contents);
        break;
      case DiskEntry::Kind::folder:
        std::filesystem::create_directory(folder / path);
        break;
      case DiskEntry::Kind::link:
        std::filesystem::create_symlink(entry.contents, folder / path);
        break;
    }
  }
}

ModelDisk::ModelDisk(std::string root) : root_(std::move(root)) {
  add({.kind = DiskEntry::Kind::folder});
}

ModelDisk::NodeId ModelDisk::add(Node node) {
  nodes_.push_back(std::move(node));
  return nodes_.size() - 1;
}

std::optional<ModelDisk::NodeId> ModelDisk::find(const Name& name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? std::nullopt : std::optional(found->second);
}

ModelDisk::Name ModelDisk::name_of(const std::string& path) const {
  if (!path.starts_with(root_ + "/")) throw std::runtime_error(path + ": outside of " + root_);
  NodeId folder = 0;
  std::size_t at = root_.size() + 1;
  for (std::size_t end = 0; (end = path.find('/', at)) != path.npos; at = end + 1) {
    const auto next = find({folder, path.substr(at, end - at)});
    if (!next) throw std::runtime_error(path + ": its folder was never made");
    folder = *next;
  }
  return {folder, path.substr(at)};
}

ModelDisk::NodeId ModelDisk::require(const std::string& path) const {
  if (path == root_) return 0;
  const auto node = find(name_of(path));
  if (!node) throw std::runtime_error(path + ": was never made");
  return *node;
}

void ModelDisk::apply_names(Names& names, const NameChange& change) {
  for (const auto& [name, node] : change) {
    if (node) {
      names[name] = *node;
    } else {
      names.erase(name);
    }
  }
}

void ModelDisk::change_names(NameChange change) {
  apply_names(names_, change);
  pending_names_.push_back(std::move(change));
}

void ModelDisk::open(const FileCall& call) {
  const bool is_root = call.path == root_;
  if (!is_root && (call.flags & O_CREAT) != 0 && !find(name_of(call.path))) {
    change_names({{name_of(call.path), add({.kind = DiskEntry::Kind::file})}});
  }
  const NodeId node = require(call.path);
  if ((call.flags & O_TRUNC) != 0) change_data(node, {.offset = 0, .data = std::nullopt});
  descriptors_[call.descriptor] = node;
}

void ModelDisk::rename(const FileCall& call) {
  const Name from = name_of(call.path), to = name_of(call.other_path);
  const NodeId node = require(call.path);
  constexpr std::int64_t kExchange = 2;  // RENAME_EXCHANGE
  const auto there = (call.flags & kExchange) != 0 ? find(to) : std::nullopt;
  change_names({{from, there}, {to, node}});
}

void ModelDisk::change_data(NodeId file, Change change) {
  Node& node = nodes_[file];
  if (change.data) {
    put(node.data, change.offset, *change.data);
  } else {
    if (node.data.size() == change.offset) return;
    node.data.resize(change.offset, '\0');
  }
  node.pending.push_back(std::move(change));
}

void ModelDisk::sync(NodeId id) {
  Node& node = nodes_[id];
  if (node.kind == DiskEntry::Kind::folder) return sync_names(id);
  node.durable = node.data;
  node.pending.clear();
}

// Later changes of a name need the earlier ones: from the last to the first, those of the folder's
// names and those that they need.
void ModelDisk::sync_names(NodeId folder) {
  std::set<Name> needed;
  std::vector<bool> is_synced(pending_names_.size());
  for (std::size_t i = pending_names_.size(); i-- > 0;) {
    is_synced[i] = std::ranges::any_of(pending_names_[i], [&](const auto& part) {
      return part.first.first == folder || needed.contains(part.first);
    });
    if (!is_synced[i]) continue;
    for (const auto& part : pending_names_[i]) needed.insert(part.first);
  }
  std::vector<NameChange> rest;
  for (std::size_t i = 0; i < pending_names_.size(); ++i) {
    if (is_synced[i]) {
      apply_names(durable_names_, pending_names_[i]);
    } else {
      rest.push_back(std::move(pending_names_[i]));
    }
  }
  pending_names_ = std::move(rest);
}

void ModelDisk::apply(const FileCall& call) {
  const auto described = [&] {
    const auto found = descriptors_.find(call.descriptor);
    if (found == descriptors_.end()) throw std::runtime_error(call.path + ": was never opened");
    return found->second;
  };
  if (call.operation == "session") return descriptors_.clear();
  if (call.result < 0 || call.operation == "kill") return;
  if (call.operation == "open") return open(call);
  if (call.operation == "write") {
    return change_data(described(), {static_cast<std::uint64_t>(call.offset), call.data});
  }
  if (call.operation == "ftruncate") {
    return change_data(described(), {static_cast<std::uint64_t>(call.offset), std::nullopt});
  }
  if (call.operation == "truncate") {
    return change_data(require(call.path), {static_cast<std::uint64_t>(call.offset), std::nullopt});
  }
  if (call.operation == "fsync") return sync(described());
  if (call.operation == "close") return void(descriptors_.erase(call.descriptor));
  if (call.operation == "rename") return rename(call);
  if (call.operation == "mkdir") {
    return change_names({{name_of(call.path), add({.kind = DiskEntry::Kind::folder})}});
  }
  if (call.operation == "symlink") {
    return change_names({{name_of(call.path), add({.kind = DiskEntry::Kind::link,
                                                   .data = call.other_path,
                                                   .durable = call.other_path})}});
  }
  if (call.operation == "unlink" || call.operation == "rmdir") {
    require(call.path);
    return change_names({{name_of(call.path), std::nullopt}});
  }
  throw std::runtime_error(call.operation + ": the model does not know this call");
}

template <class Contents>
DiskState ModelDisk::tree(const Names& names, const Contents& contents) const {
  DiskState state;
  std::vector<std::pair<NodeId, std::string>> folders = {{0, ""}};
  while (!folders.empty()) {
    const auto [folder, prefix] = folders.back();
    folders.pop_back();
    for (auto at = names.lower_bound({folder, ""}); at != names.end() && at->first.first == folder;
         ++at) {
      const Node& node = nodes_[at->second];
      const std::string path = prefix + at->first.second;
      const bool is_folder = node.kind == DiskEntry::Kind::folder;
      if (is_folder) folders.emplace_back(at->second, path + "/");
      state[path] = {.kind = node.kind, .contents = is_folder ? "" : contents(node)};
    }
  }
  return state;
}

DiskState ModelDisk::running() const {
  return tree(names_, [](const Node& node) { return node.data; });
}

DiskState ModelDisk::durable() const {
  return tree(durable_names_, [](const Node& node) { return node.durable; });
}

std::string ModelDisk::damaged(const Node& node, std::mt19937_64& random) {
  if (node.pending.empty()) return node.durable;
  std::string bytes = node.durable;
  const auto write = [&](const Change& change, std::uint64_t limit) {
    if (change.data) {
      put(bytes, change.offset, std::string_view(*change.data).substr(0, limit));
    } else {
      bytes.resize(change.offset, '\0');
    }
  };
  const auto kept = static_cast<std::size_t>(below(random, node.pending.size() + 1));
  switch (below(random, 5)) {
    case 0:
      return node.data;
    case 1:
      return node.durable;
    case 2:
      return some_sectors(node.durable, node.data, random);
    default:
      break;
  }
  for (std::size_t i = 0; i < kept; ++i) write(node.pending[i], std::string::npos);
  if (kept < node.pending.size() && node.pending[kept].data) {
    write(node.pending[kept], below(random, node.pending[kept].data->size() + 1));
  }
  if (below(random, 2) == 0) bytes.resize(std::max(bytes.size(), node.data.size()), '\0');
  return bytes;
}

// At 0 of 8 no pending name is there, at 8 of 8 all are.
DiskState ModelDisk::after_power_loss(std::mt19937_64& random) const {
  Names names = durable_names_;
  std::set<Name> lost;
  const std::uint64_t kept = below(random, 9);
  for (const NameChange& change : pending_names_) {
    const bool is_lost =
        below(random, 8) >= kept ||
        std::ranges::any_of(change, [&](const auto& part) { return lost.contains(part.first); });
    if (!is_lost) {
      apply_names(names, change);
      continue;
    }
    for (const auto& part : change) lost.insert(part.first);
  }
  return tree(names, [&](const Node& node) { return damaged(node, random); });
}

}  // namespace lathe::test
