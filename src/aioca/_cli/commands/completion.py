"""``aioca completion``: print the script by which a shell completes the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..shared import Failure

# How to install the script: for the running shell, and for all new shells.
_INSTALL = {
    "bash": """\
# Completion of aioca for bash (4.4 or later). For this shell: eval "$(aioca completion bash)"
# For all new shells:
#   mkdir -p ~/.local/share/bash-completion/completions
#   aioca completion bash > ~/.local/share/bash-completion/completions/aioca
# or, if the package bash-completion is not installed, put the eval into ~/.bashrc.
""",
    "zsh": """\
#compdef aioca
# Completion of aioca for zsh. For this shell, after compinit: eval "$(aioca completion zsh)"
# For all new shells:
#   mkdir -p ~/.zfunc && aioca completion zsh > ~/.zfunc/_aioca
# and in ~/.zshrc: fpath+=~/.zfunc; autoload -Uz compinit && compinit
""",
    "fish": """\
# Completion of aioca for fish. For this shell: aioca completion fish | source
# For all new shells:
#   aioca completion fish > ~/.config/fish/completions/aioca.fish
""",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(_INSTALL)))
def command(shell: str) -> int:
    """Print a completion script for a shell.

    The shell then completes commands, options and file names.

    \b
    Examples:
      eval "$(aioca completion bash)"
      eval "$(aioca completion zsh)"
      aioca completion fish | source
    The first lines of the script say how to install it for every new shell.
    """
    # Not at the top: `app` imports this module.
    from ..app import COMPLETE, app

    kind = get_completion_class(shell)
    if kind is None:
        raise Failure(f"this version of click does not know {shell}; pip install -U click")
    source = kind(app, {}, "aioca", COMPLETE).source()
    if source.startswith("#compdef"):
        source = source.partition("\n")[2]  # it has to be the first line: `_INSTALL` has it
    print(_INSTALL[shell] + source)
    return 0
