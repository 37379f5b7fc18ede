"""Print what makes a shell complete `raypt`: jobs, options, configuration keys and their values, run directories.

    raypt completion bash > ~/.local/share/bash-completion/completions/raypt
    raypt completion zsh > "${fpath[1]}/_raypt"
    raypt completion fish > ~/.config/fish/completions/raypt.fish

The keys of this version are in what is printed: pressing TAB starts no Python. Print it again after an update.
"""

import shlex
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from raypt import __version__
from raypt.config_io import all_keys, submodel
from raypt.errors import UserError

OF_TOOLS: dict[str, tuple[str, ...]] = {
    "status": (),
    "report": ("--out",),
    "compare": ("--out",),
    "ls": (),
    "rm": ("--all", "--checkpoints", "--work", "--yes"),
}
"""Options of what looks at runs; their other arguments are run directories."""


def values(annotation: Any) -> tuple[str, ...]:
    """What a key of this type may be, where that can be listed: of a choice and of a yes or no."""
    if annotation is bool:
        return ("true", "false")
    origin = get_origin(annotation)
    if origin is Literal:
        return tuple(str(value) for value in get_args(annotation))
    if origin is Annotated:
        return values(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return tuple(value for inner in get_args(annotation) for value in values(inner))
    return ()


def keys(schema: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Every key that takes a value, the first entry of each list for all of them, with what it may be."""
    found = all_keys(schema)
    return {key.replace("[]", "[0]"): values(info.annotation) for key, info in found if not submodel(info.annotation)}


def sections(schema: type[BaseModel]) -> list[str]:
    """What `--help` can be asked about: sections, and keys."""
    return [*dict.fromkeys(key.replace("[]", "") for key, _ in all_keys(schema))]


class Words:
    """What can stand where on the command line."""

    def __init__(self) -> None:
        from raypt.run.bench import BENCHES
        from raypt.run.cli import JOBS, TOOLS
        from raypt.run.config import RunConfig
        from raypt.run.job import OPTIONS
        from raypt.run.study.config import StudyConfig

        self.first = [*JOBS, *TOOLS, "--help", "--version"]
        self.benches, self.options, self.tools = [*BENCHES], [*OPTIONS], OF_TOOLS
        self.keys = keys(RunConfig)
        self.study_keys = {key: found for key, found in keys(StudyConfig).items() if key not in self.keys}
        self.sections = sections(RunConfig)

    def choices(self) -> Iterator[tuple[str, str]]:
        """Keys whose values can be listed, and these in a line."""
        for key, found in (self.keys | self.study_keys).items():
            if found:
                yield key, " ".join(found)


def _lists(words: Words) -> str:
    """The word lists, as bash and zsh both read them: a word a line."""
    named = {
        "first": words.first,
        "benches": words.benches,
        "options": words.options,
        "sections": words.sections,
        "keys": [f"{key}=" for key in words.keys],
        "study_keys": [f"{key}=" for key in words.study_keys],
    }
    lines = [f"_raypt_{name}={shlex.quote(chr(10).join(found))}" for name, found in named.items()]
    cases = "".join(f"    {shlex.quote(key)}) echo {shlex.quote(found)};;\n" for key, found in words.choices())
    lines.append(f"_raypt_values() {{\n  case $1 in\n{cases}  esac\n}}")
    tools = "".join(f"    {name}) echo {shlex.quote(' '.join(found))};;\n" for name, found in words.tools.items())
    lines.append(f"_raypt_tool() {{\n  case $1 in\n{tools}    *) return 1;;\n  esac\n}}")
    return "\n".join(lines)


BASH = r"""
# The lines of $1 that begin with $2, each to its next dot.
_raypt_step() {
  local word rest seen=$'\n'
  while IFS= read -r word; do
    [[ $word == "$2"* ]] || continue
    rest=${word#"$2"}
    [[ $rest == *.* ]] && word=$2${rest%%.*}.
    [[ $seen == *$'\n'"$word"$'\n'* ]] && continue
    seen+=$word$'\n'
    [[ $word == *[.=] ]] || word+=' '
    COMPREPLY+=("$word")
  done <<< "$1"
}
_raypt_files() {
  compopt +o nospace -o filenames
  mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
}
_raypt() {
  local line=${COMP_LINE:0:COMP_POINT} cur job before
  local -a words
  COMPREPLY=()
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  cur=${words[-1]}
  if (( ${#words[@]} <= 2 )); then _raypt_step "$_raypt_first" "$cur"; return; fi
  job=${words[1]} before=${words[-2]}
  if [[ $before == --config || $before == --out ]]; then _raypt_files -f "$cur"; return; fi
  if [[ $cur == --config=* ]]; then _raypt_files -f "${cur#*=}"; return; fi
  local own
  if own=$(_raypt_tool "$job"); then
    if [[ $cur == -* ]]; then _raypt_step "${own// /$'\n'}" "$cur"; else _raypt_files -d "$cur"; fi
    return
  fi
  case $job in
    bench) (( ${#words[@]} == 3 )) && _raypt_step "$_raypt_benches" "$cur"; return;;
    completion) (( ${#words[@]} == 3 )) && _raypt_step $'bash\nzsh\nfish' "$cur"; return;;
  esac
  if [[ $before == --help ]]; then _raypt_step "$_raypt_sections" "$cur"; return; fi
  case $cur in
    -*) _raypt_step "$_raypt_options" "$cur";;
    *=*) own=$(_raypt_values "${cur%%=*}"); [[ $own ]] && _raypt_step "${own// /$'\n'}" "${cur#*=}";;
    *)
      _raypt_step "$_raypt_keys" "$cur"
      [[ $job == study ]] && _raypt_step "$_raypt_study_keys" "$cur";;
  esac
}
complete -o nospace -F _raypt raypt
"""

ZSH = r"""
# The lines of $1 that begin with what is typed, each to its next dot.
_raypt_step() {
  local typed=${(Q)PREFIX} word rest
  local -aU more ends
  for word in ${(f)1}; do
    [[ $word == "$typed"* ]] || continue
    rest=${word#"$typed"}
    [[ $rest == *.* ]] && word=$typed${rest%%.*}.
    if [[ $word == *[.=] ]]; then more+=($word); else ends+=($word); fi
  done
  (( $#more )) && compadd -S '' -a more
  (( $#ends )) && compadd -a ends
}
_raypt() {
  local typed=${(Q)PREFIX} job=$words[2] before=${words[CURRENT-1]} own
  if (( CURRENT == 2 )); then _raypt_step $_raypt_first; return; fi
  if [[ $before == --config || $before == --out ]]; then _files; return; fi
  if [[ $typed == --config=* ]]; then compset -P '*='; _files; return; fi
  if own=$(_raypt_tool $job); then
    if [[ $typed == -* ]]; then _raypt_step ${own// /$'\n'}; else _files -/; fi
    return
  fi
  case $job in
    bench) (( CURRENT == 3 )) && _raypt_step $_raypt_benches; return;;
    completion) (( CURRENT == 3 )) && _raypt_step $'bash\nzsh\nfish'; return;;
  esac
  if [[ $before == --help ]]; then _raypt_step $_raypt_sections; return; fi
  case $typed in
    -*) _raypt_step $_raypt_options;;
    *=*) own=$(_raypt_values ${typed%%=*}); compset -P '*='; [[ -n $own ]] && _raypt_step ${own// /$'\n'};;
    *) if [[ $job == study ]]; then _raypt_step $_raypt_keys$'\n'$_raypt_study_keys; else _raypt_step $_raypt_keys; fi;;
  esac
}
if [[ $funcstack[1] == _raypt ]]; then _raypt "$@"; else compdef _raypt raypt; fi
"""


def bash(words: Words) -> str:
    return f"# raypt {__version__}: completion for bash\n{_lists(words)}\n{BASH.lstrip()}"


def zsh(words: Words) -> str:
    return f"#compdef raypt\n# raypt {__version__}: completion for zsh\n{_lists(words)}\n{ZSH.lstrip()}"


def fish(words: Words) -> str:
    """A line a place; `raypt_at N` says that the word is the Nth, `raypt_job` that the job reads a configuration."""
    tools = " ".join(words.tools)
    pairs = [f"{key}={value}" for key, found in (words.keys | words.study_keys).items() for value in found]
    plain = [f"{key}=" for key, found in words.keys.items() if not found]
    own = [f"{key}=" for key, found in words.study_keys.items() if not found]
    lines = [
        f"# raypt {__version__}: completion for fish",
        "function __raypt_at; test (count (commandline -opc)) -eq $argv[1]; end",
        "function __raypt_is; set -l at (commandline -opc); test (count $at) -ge 2; and contains -- $at[2] $argv; end",
        "function __raypt_job; set -l at (commandline -opc); test (count $at) -ge 2; "
        f"and not contains -- $at[2] {tools} bench completion; end",
        "function __raypt_after; set -l at (commandline -opc); contains -- $at[-1] $argv; end",
        "complete -c raypt -f",
        f"complete -c raypt -n '__raypt_at 1' -a '{' '.join(words.first)}'",
        f"complete -c raypt -n '__raypt_at 2; and __raypt_is bench' -a '{' '.join(words.benches)}'",
        "complete -c raypt -n '__raypt_at 2; and __raypt_is completion' -a 'bash zsh fish'",
        f"complete -c raypt -n '__raypt_is {tools}' -a '(__fish_complete_directories)'",
        "complete -c raypt -n '__raypt_after --config --out' -F",
        f"complete -c raypt -n '__raypt_job; and __raypt_after --help' -a '{' '.join(words.sections)}'",
        f"complete -c raypt -n '__raypt_job; and not __raypt_after --help --config' -a '{' '.join([*plain, *pairs])}'",
        f"complete -c raypt -n '__raypt_is study' -a '{' '.join(own)}'",
        f"complete -c raypt -n '__raypt_job' -a '{' '.join(words.options)}'",
        *(f"complete -c raypt -n '__raypt_is {name}' -a '{' '.join(o)}'" for name, o in words.tools.items() if o),
    ]
    return "\n".join(lines) + "\n"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def main(argv: list[str]) -> int:
    """Print the completion of the shell that is named."""
    if len(argv) != 1 or argv[0] not in SHELLS:
        raise UserError(f"name one shell of {', '.join(SHELLS)}")
    print(SHELLS[argv[0]](Words()), end="")
    return 0
