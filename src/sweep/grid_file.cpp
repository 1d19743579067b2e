#include "grid_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "lathe/error.h"
#include "lathe/files.h"
#include "options/option_toml.h"

namespace lathe {
namespace {

// Where in the file a key stands.
enum class Place { above_tables, grid, run };

[[noreturn]] void refuse(const std::string& origin, std::string_view why) {
  throw Error(ExitCode::usage, fmt::format("{}: {}", origin, why));
}

// toml++ sorts by name; the order that the user wrote says which option varies fastest.
std::vector<std::pair<std::string, const toml::node*>> in_order(const toml::table& table) {
  struct Entry {
    toml::source_position position;
    std::string key;
    const toml::node* value;
  };
  std::vector<Entry> entries;
  for (const auto& [key, value] : table) {
    entries.push_back({key.source().begin, std::string(key.str()), &value});
  }
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return std::pair(a.position.line, a.position.column) <
           std::pair(b.position.line, b.position.column);
  });
  std::vector<std::pair<std::string, const toml::node*>> result;
  for (Entry& entry : entries) result.emplace_back(std::move(entry.key), entry.value);
  return result;
}

// Whether it is one of the runs' options; what is the sweep's own stands above the tables alone.
bool is_of_runs(const OptionSpec& option, Place place, const std::string& origin) {
  const bool names_a_run = place == Place::run && option.member == OptionMember(&Options::name);
  if (option.taken_by(Command::sweep) && !names_a_run) {
    if (place != Place::above_tables)
      refuse(origin, "is of the whole sweep; it stands above the tables");
    return false;
  }
  if (option.member == OptionMember(&Options::resume) ||
      option.member == OptionMember(&Options::overwrite)) {
    refuse(origin, "is not for sweeps: a sweep starts its runs, and goes on with those it finds");
  }
  if (!option.taken_by(Command::train)) refuse(origin, "lathe train does not take it");
  return true;
}

class GridReader {
 public:
  explicit GridReader(const std::filesystem::path& path) : path_(path.string()) {
    grid_.path = path;
  }

  GridFile read() {
    const TomlFile file = read_toml_file(grid_.path);
    grid_.sha256 = sha256(file.text);
    for (const auto& [key, value] : in_order(file.table)) {
      if (key == kGridTable) {
        read_grid(*value);
      } else if (key == kRunTable) {
        read_runs(*value);
      } else if (auto setting = read_setting(key, *value, Place::above_tables, "")) {
        grid_.fixed.push_back(std::move(*setting));
      }
    }
    if (grid_.axes.empty() && grid_.runs.empty()) {
      refuse(path_,
             "has no run: give a table [grid] of arrays, such as lr = [1e-3, 3e-3], or "
             "tables [[run]]");
    }
    return std::move(grid_);
  }

 private:
  // `table` is what stands before the key in messages: "[grid] ".
  std::optional<Setting> read_setting(const std::string& key, const toml::node& value, Place place,
                                      const std::string& table) const {
    const std::string origin = table + on_one_line(key), full = in_file(origin);
    const bool is_at_top = place == Place::above_tables;
    constexpr std::string_view kTables[] = {kGridTable, kRunTable};
    const OptionSpec& option =
        option_of_key(key, value, full, is_at_top ? kTables : std::span<const std::string_view>());
    if (!is_of_runs(option, place, full)) return std::nullopt;
    return Setting{&option, option_values(option, value, full), origin};
  }

  void read_grid(const toml::node& node) {
    const toml::table* table = node.as_table();
    if (table == nullptr) {
      refuse(in_file("grid"), fmt::format("must be a table of arrays, not {}", type_name(node)));
    }
    for (const auto& [key, value] : in_order(*table)) read_axis(key, *value);
  }

  void read_axis(const std::string& key, const toml::node& node) {
    const std::string origin = fmt::format("[grid] {}", on_one_line(key));
    const OptionSpec& option = option_of_key(key, node, in_file(origin));
    is_of_runs(option, Place::grid, in_file(origin));
    const toml::array* array = node.as_array();
    if (array == nullptr) {
      refuse(in_file(origin),
             fmt::format("must be an array of the values to try, not {}; what is the "
                         "same for all runs stands above the tables",
                         type_name(node)));
    }
    if (array->empty()) refuse(in_file(origin), "is empty; give the values to try");
    GridAxis axis{.option = &option, .values = {}};
    for (const toml::node& value : *array) {
      axis.values.push_back({&option, option_values(option, value, in_file(origin)), origin});
    }
    grid_.axes.push_back(std::move(axis));
  }

  void read_runs(const toml::node& node) {
    const toml::array* array = node.as_array();
    for (std::size_t i = 0; array != nullptr && i < array->size(); ++i) {
      const toml::table* table = array->get(i)->as_table();
      if (table == nullptr) array = nullptr;
      if (table != nullptr) read_run(*table, i + 1);
    }
    if (array == nullptr) {
      refuse(in_file("run"), "must be tables, each of which begins with [[run]]");
    }
  }

  void read_run(const toml::table& table, std::size_t number) {
    Level level;
    for (const auto& [key, value] : in_order(table)) {
      const std::string before = fmt::format("[[run]] {}: ", number);
      if (auto setting = read_setting(key, *value, Place::run, before)) {
        level.push_back(std::move(*setting));
      }
    }
    grid_.runs.push_back(std::move(level));
  }

  std::string in_file(const std::string& origin) const {
    return fmt::format("{}: {}", path_, origin);
  }

  std::string path_;
  GridFile grid_;
};

}  // namespace

GridFile read_grid_file(const std::filesystem::path& path) {
  return GridReader(path).read();
}

}  // namespace lathe
