#include "lathe/help.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "lathe/error.h"
#include "lathe/exit_codes.h"
#include "lathe/version.h"
#include "option_table.h"
#include "suggest.h"

namespace lathe {
namespace {

constexpr std::size_t kColumns = 98;

// "--lr X", "--shuffle/--no-shuffle", "--resume[=auto|PATH]"
std::string usage(const OptionSpec& option) {
  if (option.is_boolean()) {
    return option.initial == "true" ? fmt::format("--{0}/--no-{0}", option.name)
                                    : fmt::format("--{}", option.name);
  }
  if (option.value_is_optional()) return fmt::format("--{}[={}]", option.name, option.value);
  return fmt::format("--{} {}", option.name,
                     option.choices.empty() ? option.value : option.choices);
}

// The default where it says something: not of a boolean, nor of a choice, whose first it is.
std::string usage_with_default(const OptionSpec& option, const CommandSpec& command) {
  const bool says_nothing = option.is_boolean() || !option.choices.empty();
  if (says_nothing || !option.has_default_in(command)) return usage(option);
  return fmt::format("{} ({})", usage(option), option.initial);
}

// Words packed into lines; all lines but the first begin with `indent` blanks.
std::string wrap(std::span<const std::string> words, std::size_t indent, std::string_view gap) {
  std::string text;
  std::size_t column = indent;
  for (const std::string& word : words) {
    if (column > indent && column + gap.size() + word.size() > kColumns) {
      text += fmt::format("\n{:{}}", "", indent);
      column = indent;
    } else if (column > indent) {
      text += gap;
      column += gap.size();
    }
    text += word;
    column += word.size();
  }
  return text;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const std::size_t blank = std::min(text.find(' '), text.size());
    words.emplace_back(text.substr(0, blank));
    text.remove_prefix(std::min(blank + 1, text.size()));
  }
  return words;
}

std::vector<const OptionSpec*> options_of(Command command, OptionGroup group) {
  std::vector<const OptionSpec*> options;
  for (const OptionSpec& option : option_table()) {
    if (option.taken_by(command) && option.group == group) options.push_back(&option);
  }
  return options;
}

constexpr OptionGroup kGroups[] = {
    OptionGroup::data, OptionGroup::model,  OptionGroup::batch, OptionGroup::optimizer,
    OptionGroup::run,  OptionGroup::device, OptionGroup::ranks, OptionGroup::output,
};

std::string usage_line(const CommandSpec& command) {
  std::string line = fmt::format("Usage: lathe {}", command.name);
  for (const std::string_view required : command.required) {
    if (!required.empty()) line += fmt::format(" {}", usage(*find_option(required)));
  }
  if (!command.default_path.empty()) {
    line += fmt::format(" [{}...]", command.paths);
  } else if (!command.paths.empty()) {
    line += fmt::format(" {}{}", command.paths, command.takes_one_path ? "" : "...");
  }
  return line + " [options]\n";
}

// The defaults that training on the stories has instead.
std::string stories_text() {
  std::vector<std::string> words = {"Without", "--train", "the", "defaults", "are"};
  for (const PresetValue& entry : stories_preset()) {
    words.push_back(fmt::format("{} {},", entry.option, entry.value));
  }
  words.back().back() = '.';
  return wrap(words, 0, " ") + "\n";
}

// The table of exit codes as a sentence.
std::string exit_codes_text() {
  std::string text = "Exit codes:";
  for (const auto& [code, meaning] : exit_code_table()) {
    text += fmt::format(" {} {};", code, meaning);
  }
  text.back() = '.';
  return wrap(split_words(text), 0, " ") + "\n";
}

std::string version_text() {
  return fmt::format("lathe {}\n", version());
}

const CommandSpec* find_spec(std::string_view name) {
  const auto table = command_table();
  const auto found = std::ranges::find(table, name, &CommandSpec::name);
  return found == table.end() ? nullptr : &*found;
}

std::string_view on_resume_text(const OptionSpec& option) {
  if (!option.taken_by(Command::train)) return "";
  switch (option.on_resume) {
    case OnResume::fixed:
      return "fixed";
    case OnResume::may_change:
      return "may change";
    case OnResume::never_saved:
      return "not saved";
  }
  return "";
}

std::string escape_bars(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c;
  }
  return result;
}

std::string commands_of(const OptionSpec& option) {
  std::string names;
  for (const CommandSpec& command : command_table()) {
    if (!option.taken_by(command.id)) continue;
    names += fmt::format("{}{}", names.empty() ? "" : " ", command.name);
  }
  return names;
}

}  // namespace

std::string main_help() {
  std::string text = version_text();
  text += "Trains GPT-2 from the shell.\n\nUsage: lathe COMMAND [options]\n\n";
  for (const CommandSpec& command : command_table()) {
    text += fmt::format("  {:<17}{}\n", command.name, command.summary);
  }
  text += fmt::format("\nExample: {}\n", command_spec(Command::train).example);
  text +=
      "\nlathe COMMAND --help shows the options of a command, --help-all what each of them means.\n"
      "An option may also stand in the environment (LATHE_MICRO_BATCH=8) or in a flat TOML file\n"
      "that --config names (micro-batch = 8). Flags beat the environment, which beats the file.\n";
  text += "\nExit codes:\n";
  for (const auto& [code, meaning] : exit_code_table()) {
    text += fmt::format("  {:<7}{}\n", code, meaning);
  }
  return text;
}

std::string command_help(Command id) {
  const CommandSpec& command = command_spec(id);
  std::string text = usage_line(command) + fmt::format("\n{}\n", command.description);
  bool has_choices = false;
  for (const OptionGroup group : kGroups) {
    std::vector<std::string> usages;
    for (const OptionSpec* option : options_of(id, group)) {
      usages.push_back(usage_with_default(*option, command));
      has_choices |= !option->choices.empty();
    }
    if (usages.empty()) continue;
    text += fmt::format("\n{}:\n  {}\n", title(group), wrap(usages, 2, "  "));
  }
  text += fmt::format("\nExample: {}\n", command.example);
  if (has_choices) {
    text += "Defaults stand in parentheses; of choices the first is the default.\n";
  }
  if (find_option("train")->taken_by(id)) text += stories_text();
  if (id == Command::train) text += exit_codes_text();
  return text + fmt::format("`lathe {} --help-all` says what each of them means.\n", command.name);
}

std::string options_help(Command id) {
  constexpr std::size_t kIndent = 6;
  const CommandSpec& command = command_spec(id);
  std::string text = usage_line(command) + fmt::format("\n{}\n", command.description);
  for (const OptionGroup group : kGroups) {
    const auto options = options_of(id, group);
    if (!options.empty()) text += fmt::format("\n{}:\n", title(group));
    for (const OptionSpec* option : options) {
      std::string meaning = fmt::format("{}.", option->help);
      if (option->has_default_in(command) && !option->is_boolean()) {
        meaning += fmt::format(" Default: {}.", option->initial);
      }
      text += fmt::format("  {}\n{:{}}{}\n", usage(*option), "", kIndent,
                          wrap(split_words(meaning), kIndent, " "));
    }
  }
  text += fmt::format("\nExample: {}\n", command.example);
  return find_option("train")->taken_by(id) ? text + stories_text() : text;
}

std::string options_markdown() {
  std::string text = "| Option | Default | Meaning | Commands | On `--resume` |\n";
  text += "| --- | --- | --- | --- | --- |\n";
  for (const OptionSpec& option : option_table()) {
    const std::string initial(option.initial);
    text += fmt::format("| `{}` | {} | {} | {} | {} |\n", escape_bars(usage(option)),
                        initial.empty() ? "" : fmt::format("`{}`", initial),
                        escape_bars(option.help), commands_of(option), on_resume_text(option));
  }
  return text + "\n" + stories_text();
}

std::optional<std::string> help_text(std::span<const std::string> args) {
  if (args.empty()) return std::nullopt;
  const std::string& first = args.front();
  if (first == "--version") return version_text();
  if (first == "--help" || first == "-h" || first == "--help-all") return main_help();
  if (first == "help") {
    if (args.size() == 1) return main_help();
    if (args[1] == "options" && args.size() == 3 && args[2] == "--markdown") {
      return options_markdown();
    }
    return command_help(find_command(args.subspan(1)));
  }
  const CommandSpec* command = find_spec(first);
  if (command == nullptr) return std::nullopt;
  for (const std::string& argument : args.subspan(1)) {
    if (argument == "--") break;
    if (argument == "--help" || argument == "-h") return command_help(command->id);
    if (argument == "--help-all") return options_help(command->id);
    if (argument == "--version") return version_text();
  }
  return std::nullopt;
}

Command find_command(std::span<const std::string> args) {
  std::string names;
  std::vector<std::string> known;
  for (const CommandSpec& command : command_table()) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", command.name);
    known.emplace_back(command.name);
  }
  if (args.empty()) {
    throw Error(ExitCode::usage, fmt::format("needs a command: {}; see lathe --help", names));
  }
  if (const CommandSpec* command = find_spec(args.front())) return command->id;
  const auto suggestion = closest(args.front(), known);
  throw Error(ExitCode::usage, fmt::format("{}: no such command; {}", args.front(),
                                           suggestion ? fmt::format("did you mean {}?", *suggestion)
                                                      : fmt::format("there are {}", names)));
}

}  // namespace lathe
