// What --name makes of a template: the name of a run's folder, from the values of its options.
#pragma once

#include <string>

#include "lathe/options.h"

namespace lathe {

// "lr{lr}-s{seed}" gives "lr0.001-s1". In braces stands an option that config.toml keeps, of which
// the value is as it stands there; {{ and }} are braces. In a value, a row of characters other than
// letters and digits of ASCII and . _ + - = becomes one -.
// Throws Error(usage) naming --name and the template.
std::string run_name(const std::string& name_template, const Options& options);

}  // namespace lathe
