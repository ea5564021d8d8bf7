// cairn completion: words for the shell.
#include <cstdio>
#include <memory>
#include <string>

#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"

namespace cairn {

namespace {

// The commands as the parser knows them, so that the words cannot be others.
std::string words_of(const CLI::App& app) {
  std::string out;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    out += (out.empty() ? "" : " ") + command->get_name();
  return out;
}

std::string bash(const CLI::App& app) {
  std::string cases;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    std::string words = words_of(*command);
    if (!words.empty())
      cases += "    " + command->get_name() + ") [ \"$COMP_CWORD\" = 2 ] && COMPREPLY=($(compgen -W '" + words +
               "' -- \"$word\")) && return;;\n";
  }
  return "_cairn() {\n  local word=${COMP_WORDS[COMP_CWORD]}\n  COMPREPLY=()\n  if [ \"$COMP_CWORD\" = 1 ]; then "
         "COMPREPLY=($(compgen -W '" +
         words_of(app) + "' -- \"$word\")); return; fi\n  case ${COMP_WORDS[1]} in\n" + cases +
         "  esac\n  COMPREPLY=($(compgen -f -- \"$word\"))\n}\ncomplete -o filenames -F _cairn cairn\n";
}

std::string zsh(const CLI::App& app) {
  return "autoload -U +X bashcompinit && bashcompinit\n" + bash(app);
}

std::string fish(const CLI::App& app) {
  std::string out;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    out += "complete -c cairn -n __fish_use_subcommand -a " + command->get_name() + " -d '" +
           command->get_description() + "'\n";
    std::string words = words_of(*command);
    if (!words.empty())
      out += "complete -c cairn -n '__fish_seen_subcommand_from " + command->get_name() + "' -f -a '" + words + "'\n";
  }
  return out;
}

}  // namespace

void add_completion_command(CLI::App& app, Action& action) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "Print completion for a shell: source <(cairn completion bash)");
  command->add_option("shell", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([shell, &app, &action] {
    action = [shell, &app] {
      std::string text = *shell == "bash" ? bash(app) : *shell == "zsh" ? zsh(app) : fish(app);
      std::fputs(text.c_str(), stdout);
      return kExitOk;
    };
  });
}

}  // namespace cairn
