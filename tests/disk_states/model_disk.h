// A file system that loses power. It does what recorded calls did, and knows of each change whether
// a sync has brought it to the disk. What POSIX leaves open is drawn at random, so that what holds
// after every draw holds on any file system:
//
// - What was written to a file and not synced: all, none, a prefix that may end inside a write, the
//   new length with zeros behind a prefix, or any of the 512-byte sectors, zeros or what was there
//   in place of the others.
// - A name made, renamed or removed in a folder that was not synced since: any of these is there or
//   not, whatever the order, but for this: what was done to a name is not there without all that
//   was done to it before. A rename is there for both of its names or for none.
// - A folder's sync makes its own names durable, and of other folders no more than the renames
//   between them need. A file's sync brings its bytes to the disk and not its name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "file_trace.h"

namespace lathe::test {

struct DiskEntry {
  enum class Kind { file, folder, link };
  Kind kind;
  std::string contents;  // of a link where it points to
  bool operator==(const DiskEntry&) const = default;
};
// Everything below a folder by its path relative to it.
using DiskState = std::map<std::string, DiskEntry>;

void write_state(const DiskState& state, const std::filesystem::path& folder);

class ModelDisk {
 public:
  // Empty and durable, standing for the folder `root` of the calls.
  explicit ModelDisk(std::string root);

  // Calls that failed change nothing. Throws std::runtime_error where a call cannot have been, so
  // that one which the trace has not cannot be missed.
  void apply(const FileCall& call);

  DiskState running() const;  // as programs see it
  DiskState durable() const;  // where all is lost that may be
  DiskState after_power_loss(std::mt19937_64& random) const;

 private:
  using NodeId = std::size_t;
  struct Change {                     // of a file's bytes
    std::uint64_t offset;             // or the new length
    std::optional<std::string> data;  // nullopt: cut to that length
  };
  struct Node {
    DiskEntry::Kind kind;
    std::string data = {}, durable = {};
    std::vector<Change> pending = {};
  };
  using Name = std::pair<NodeId, std::string>;  // in a folder
  using Names = std::map<Name, NodeId>;
  // What a call did to names, at once; nullopt: it is gone.
  using NameChange = std::vector<std::pair<Name, std::optional<NodeId>>>;

  static void apply_names(Names& names, const NameChange& change);
  static std::string damaged(const Node& node, std::mt19937_64& random);
  Name name_of(const std::string& path) const;  // its folder must be there
  std::optional<NodeId> find(const Name& name) const;
  NodeId require(const std::string& path) const;
  NodeId add(Node node);
  void change_names(NameChange change);
  void open(const FileCall& call);
  void rename(const FileCall& call);
  void change_data(NodeId file, Change change);
  void sync(NodeId node);
  void sync_names(NodeId folder);
  template <class Contents>
  DiskState tree(const Names& names, const Contents& contents) const;

  std::string root_;
  std::vector<Node> nodes_;  // 0: the root
  Names names_, durable_names_;
  std::vector<NameChange> pending_names_;
  std::map<int, NodeId> descriptors_;
};

}  // namespace lathe::test
