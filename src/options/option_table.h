// Every option and every command is declared here once; parsing, help, environment, TOML and
// resume visit these tables and know no option by name, but for the few rules in options.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lathe/options.h"
#include "option_numbers.h"

namespace lathe {

using OptionMember =
    std::variant<std::string Options::*, std::int64_t Options::*, std::uint64_t Options::*,
                 double Options::*, bool Options::*, std::vector<std::string> Options::*,
                 std::optional<std::string> Options::*>;

enum class OptionGroup { data, model, batch, optimizer, run, device, ranks, output };
std::string_view title(OptionGroup group);

// What a resumed run may do with it.
enum class OnResume { fixed, may_change, never_saved };

struct CommandSpec;

// The kind of an option is the type of its member.
struct OptionSpec {
  std::string_view name;  // "micro-batch"
  OptionMember member;
  std::string_view value = "";    // what help calls its value: "N"
  std::string_view choices = "";  // instead of `value`, all that is allowed: "auto|cpu"
  std::string_view initial = "";  // the default, as on a command line; "": none
  IntegerRange integers = {};     // of an integer
  std::string_view word = "";     // what else an integer may be, kept as kWord; "": nothing
  RealRange reals = {};           // of a real
  OptionGroup group;
  unsigned commands;  // a bit for each command that takes it: bit(Command)
  OnResume on_resume = OnResume::never_saved;
  std::string_view help;

  bool is_boolean() const { return std::holds_alternative<bool Options::*>(member); }
  bool is_list() const {
    return std::holds_alternative<std::vector<std::string> Options::*>(member);
  }
  bool is_number() const;
  bool value_is_optional() const {
    return std::holds_alternative<std::optional<std::string> Options::*>(member);
  }
  bool taken_by(Command command) const;
  bool required_by(const CommandSpec& command) const;
  bool has_default_in(const CommandSpec& command) const;  // the one of the table
};

constexpr unsigned bit(Command command) {
  return 1u << static_cast<unsigned>(command);
}

std::span<const OptionSpec> option_table();
const OptionSpec* find_option(std::string_view name);  // nullptr: none of that name

struct CommandSpec {
  Command id;
  std::string_view name;
  std::string_view summary;
  std::string_view description;
  std::string_view paths = "";  // what its arguments without dashes are; "": it takes none
  bool takes_one_path = false;
  std::string_view default_path = "";  // where none is given; "": one must be
  std::string_view own_default = "";   // an option whose default is not that of the table
  std::array<std::string_view, 2> required = {};  // the options that must be given
  std::string_view example;
};

std::span<const CommandSpec> command_table();
const CommandSpec& command_spec(Command command);

// Values below everything the user says, as a config file would give them.
struct PresetValue {
  std::string_view option;
  std::string_view value;
};
std::span<const PresetValue> stories_preset();  // training without --train
std::span<const PresetValue> bench_preset();

}  // namespace lathe
