#include "run_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>

#include "base/number_text.h"
#include "base/strict_json.h"
#include "lathe/error.h"
#include "options/suggest.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

// null where the run has no such value.
ordered_json value_of(const RunSummary& run, const std::string& column) {
  if (column == "name") return run.name;
  if (column == "path") return run.path;
  if (const auto fact = run.facts.find(column); fact != run.facts.end()) return *fact;
  const auto option = run.options.find(column);
  return option != run.options.end() ? *option : ordered_json(nullptr);
}

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::ranges::find(names, name) == names.end()) names.push_back(name);
}

std::vector<std::string> all_columns(const std::vector<RunSummary>& runs) {
  std::vector<std::string> columns = {"name", "path"};
  for (const RunSummary& run : runs) {
    for (const auto& [key, value] : run.facts.items()) add_once(columns, key);
  }
  for (const RunSummary& run : runs) {
    for (const auto& [key, value] : run.options.items()) add_once(columns, key);
  }
  return columns;
}

void require_column(const std::vector<RunSummary>& runs, const char* option,
                    const std::string& column) {
  const std::vector<std::string> known = all_columns(runs);
  if (runs.empty() || std::ranges::find(known, column) != known.end()) return;
  const auto suggestion = closest(column, known);
  throw Error(ExitCode::usage, fmt::format("{} {}: no run has it; {}", option, printable(column),
                                           suggestion ? fmt::format("did you mean {}?", *suggestion)
                                                      : "lathe ls --csv shows all columns"));
}

// Options that are not the same in all runs whose options are known. Steps stand beside the step.
std::vector<std::string> differing_options(const std::vector<RunSummary>& runs) {
  std::vector<const ordered_json*> known;
  for (const RunSummary& run : runs) {
    if (!run.options.empty()) known.push_back(&run.options);
  }
  std::vector<std::string> names, differing;
  for (const ordered_json* options : known) {
    for (const auto& [name, value] : options->items()) add_once(names, name);
  }
  for (const std::string& name : names) {
    const auto differs = [&](const ordered_json* options) {
      return options->value(name, ordered_json()) != known.front()->value(name, ordered_json());
    };
    if (name != "steps" && std::ranges::any_of(known, differs)) differing.push_back(name);
  }
  return differing;
}

std::string list_text(const ordered_json& list) {
  std::string text;
  for (const ordered_json& element : list) {
    if (!text.empty()) text += ' ';
    text += element.is_string() ? element.get<std::string>() : element.dump();
  }
  return text;
}

// For a file: all digits.
std::string plain_text(const ordered_json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) return list_text(value);
  return value.dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace);
}

std::string cut(const std::string& value) {
  constexpr std::size_t kMost = 40;
  const std::string text = printable(value);
  return text.size() <= kMost ? text : text.substr(0, kMost - 3) + "...";
}

// For people: losses with as many digits as matter, times as times.
std::string cell_text(const RunSummary& run, const std::string& column) {
  constexpr double kMostDigits = 1e12;  // what is larger is damaged, and not to fill a line
  const ordered_json value = value_of(run, column);
  if (value.is_null()) return "-";
  if (column == "step") {
    const std::string steps = plain_text(value_of(run, "steps"));
    return cut(plain_text(value) + (steps.empty() ? "" : "/" + steps));
  }
  if (value.is_number() && std::abs(value.get<double>()) >= kMostDigits) {
    return fmt::format("{:.6g}", value.get<double>());
  }
  if (value.is_number() && column == "wall_seconds") {
    return duration_text(std::max(value.get<double>(), 0.0));
  }
  if (value.is_number() && column == "tokens_per_second") return rate_text(value.get<double>());
  if (value.is_number_float() && column.ends_with("loss")) {
    return fmt::format("{:.4f}", value.get<double>());
  }
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return column == "name" ? printable(plain_text(value)) : cut(plain_text(value));
}

struct Column {
  std::string name;
  std::vector<std::string> cells;  // the heading first
  bool is_number;                  // so it stands to the right
  std::size_t width;
};

struct Heading {
  std::string_view column, text;
};

constexpr Heading kHeadings[] = {{.column = "tokens_per_second", .text = "tokens/s"},
                                 {.column = "wall_seconds", .text = "wall"}};

std::string column_heading(const std::string& name) {
  const auto* found = std::ranges::find(kHeadings, name, &Heading::column);
  return found == std::end(kHeadings) ? printable(name) : std::string(found->text);
}

Column make_column(const std::vector<RunSummary>& runs, const std::string& name) {
  Column column{.name = name, .cells = {column_heading(name)}, .is_number = true, .width = 0};
  for (const RunSummary& run : runs) {
    column.cells.push_back(cell_text(run, name));
    const ordered_json value = value_of(run, name);
    column.is_number &= value.is_number() || value.is_null();
  }
  for (const std::string& cell : column.cells) column.width = std::max(column.width, cell.size());
  return column;
}

constexpr std::size_t kGap = 2;  // between columns

std::size_t width_of(const std::vector<Column>& columns) {
  std::size_t width = 0;
  for (const Column& column : columns) width += (width == 0 ? 0 : kGap) + column.width;
  return width;
}

// The columns that are shown, in their order.
std::vector<std::string> shown_columns(const std::vector<RunSummary>& runs,
                                       const RunTableSpec& spec) {
  std::vector<std::string> names = {"name", "status", "step"};
  const auto options = spec.columns.empty() ? differing_options(runs) : spec.columns;
  for (const std::string& name : options) add_once(names, name);
  for (const char* name : {"train_loss", "val_loss", "best_val_loss", "best_val_step",
                           "tokens_per_second", "wall_seconds"}) {
    add_once(names, name);
  }
  if (!spec.sort.empty()) add_once(names, spec.sort);
  return names;
}

// Of columns that have no room together, which one is to go: what says least, then of options the
// last, and none that was asked for. nullopt: none can.
std::optional<std::size_t> least_column(const std::vector<Column>& columns,
                                        const RunTableSpec& spec) {
  std::vector<std::string> order = {"best_val_step", "wall_seconds", "tokens_per_second",
                                    "train_loss"};
  if (spec.columns.empty()) {
    for (std::size_t i = columns.size(); i-- > 0;) {
      const std::string& name = columns[i].name;
      const bool is_kept = name == "name" || name == "status" || name == "step" ||
                           name == "val_loss" || name == "best_val_loss";
      if (!is_kept) add_once(order, name);
    }
  }
  for (const char* name : {"val_loss", "step", "best_val_loss", "status"}) add_once(order, name);
  for (const std::string& name : order) {
    const bool is_asked_for =
        name == spec.sort || std::ranges::find(spec.columns, name) != spec.columns.end();
    const auto found = std::ranges::find(columns, name, &Column::name);
    if (found != columns.end() && !is_asked_for) {
      return static_cast<std::size_t>(found - columns.begin());
    }
  }
  return std::nullopt;
}

// The end of a name tells runs apart.
void shorten(Column& column, std::size_t width) {
  constexpr std::size_t kDots = 2;
  column.width = std::max(width, column.cells.front().size());
  for (std::string& cell : column.cells) {
    if (cell.size() <= column.width) continue;
    cell = std::string(kDots, '.') + cell.substr(cell.size() - (column.width - kDots));
  }
}

// Returns the names of those that were left out.
std::vector<std::string> fit(std::vector<Column>& columns, const RunTableSpec& spec) {
  constexpr std::size_t kLeastWidth = 40, kLeastName = 16;
  std::vector<std::string> left_out;
  const std::size_t width = std::max(spec.width, kLeastWidth);
  if (spec.width == 0) return left_out;
  const auto rest = [&] { return width_of(columns) - columns.front().width; };
  const auto name_width = [&] { return std::min(columns.front().width, kLeastName); };
  while (rest() + name_width() > width) {
    const std::optional<std::size_t> least = least_column(columns, spec);
    if (!least) break;
    left_out.push_back(columns[*least].name);
    columns.erase(columns.begin() + static_cast<std::ptrdiff_t>(*least));
  }
  if (width_of(columns) > width) shorten(columns.front(), width - std::min(width, rest()));
  while (width_of(columns) > width && columns.size() > 1) {
    left_out.push_back(columns.back().name);
    columns.pop_back();
  }
  return left_out;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of("\",\r\n") == text.npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

// null behind everything, numbers by value before texts.
bool comes_first(const ordered_json& a, const ordered_json& b) {
  if (a.is_number() != b.is_number()) return a.is_number();
  if (a.is_number()) return a.get<double>() < b.get<double>();
  return plain_text(a) < plain_text(b);
}

}  // namespace

std::string column_of(const std::string& name) {
  const auto* found = std::ranges::find(kHeadings, name, &Heading::text);
  return found == std::end(kHeadings) ? name : std::string(found->column);
}

void sort_runs(std::vector<RunSummary>& runs, const RunTableSpec& spec) {
  for (const std::string& column : spec.columns) require_column(runs, "--columns", column);
  if (!spec.sort.empty()) {
    require_column(runs, "--sort", spec.sort);
    std::ranges::stable_sort(runs, [&](const RunSummary& a, const RunSummary& b) {
      const ordered_json left = value_of(a, spec.sort), right = value_of(b, spec.sort);
      if (left.is_null() || right.is_null()) return !left.is_null() && right.is_null();
      return spec.reverse ? comes_first(right, left) : comes_first(left, right);
    });
  } else if (spec.reverse) {
    std::ranges::reverse(runs);
  }
}

std::string runs_text(const std::vector<RunSummary>& runs, const RunTableSpec& spec) {
  if (runs.empty()) return "";
  std::vector<Column> columns;
  for (const std::string& name : shown_columns(runs, spec)) {
    columns.push_back(make_column(runs, name));
  }
  const std::vector<std::string> left_out = fit(columns, spec);
  std::string text;
  for (std::size_t row = 0; row <= runs.size(); ++row) {
    std::string line;
    for (const Column& column : columns) {
      const std::string& cell = column.cells[row];
      line += column.is_number ? fmt::format("{:>{}}", cell, column.width)
                               : fmt::format("{:<{}}", cell, column.width);
      line.append(kGap, ' ');
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  if (!left_out.empty()) {
    text += fmt::format("{} more columns: --csv, --json\n", left_out.size());
  }
  return text;
}

std::string runs_csv(const std::vector<RunSummary>& runs, const RunTableSpec& spec) {
  std::vector<std::string> columns = all_columns(runs);
  if (!spec.columns.empty()) {
    columns = {"name", "status"};
    for (const std::string& name : spec.columns) add_once(columns, name);
  }
  std::string text;
  for (const std::string& column : columns) {
    if (!text.empty()) text += ',';
    text += csv_field(column);
  }
  text += "\r\n";
  for (const RunSummary& run : runs) {
    std::string line;
    for (const std::string& column : columns) {
      line += csv_field(plain_text(value_of(run, column))) + ",";
    }
    line.pop_back();
    text += line + "\r\n";
  }
  return text;
}

std::string runs_json(const std::vector<RunSummary>& runs) {
  ordered_json array = ordered_json::array();
  for (const RunSummary& run : runs) {
    ordered_json object = {{"name", run.name}, {"path", run.path}};
    for (const auto& [key, value] : run.facts.items()) {
      if (!object.contains(key)) object[key] = value;
    }
    object["options"] = run.options;
    array.push_back(object);
  }
  return array.dump(2, ' ', /*ensure_ascii=*/true, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace lathe
