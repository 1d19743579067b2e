// Runs as a table: which columns there are, in which order the rows come, and how it is written.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "run/run_summary.h"

namespace lathe {

struct RunTableSpec {
  std::vector<std::string> columns;  // in place of the options that differ; empty: those
  std::string sort;                  // a column; empty: rows stay as they are
  bool reverse = false;
  std::size_t width = 0;  // of the terminal; 0: none
};

// A column is "name", "path", a key of RunSummary::facts or, where there is no such key, an option.
// The one that a user's word stands for: headings of the table do for their columns.
std::string column_of(const std::string& name);

// Throws Error(usage) naming --sort or --columns, and what comes close, for one that no run has.
void sort_runs(std::vector<RunSummary>& runs, const RunTableSpec& spec);

// Aligned, numbers to the right, every line within the width (at least 40): columns that have no
// room are left out, and a last line says which.
std::string runs_text(const std::vector<RunSummary>& runs, const RunTableSpec& spec);

// RFC 4180: all columns, or name, status and those that the spec names; what is unknown is empty.
std::string runs_csv(const std::vector<RunSummary>& runs, const RunTableSpec& spec);

// An array of objects: name, path, the facts, and the options as "options".
std::string runs_json(const std::vector<RunSummary>& runs);

}  // namespace lathe
