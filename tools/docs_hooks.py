"""Generated pages of the site (command line, configuration), and links that lead out of `docs/`."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
    guide = (ROOT / "config/README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "reference/configuration.md", content=guide))
    if not config["nav"]:
        return files
    for path in sorted((ROOT / "docs/history").glob("*.md")):
        entry = f"history/{path.name}"
        section = next(part for part in config["nav"] if "Explanation" in part)["Explanation"]
        if entry not in [target for each in section for target in each.values()]:
            section.append({f"History: {path.stem.replace('-', ' ')}": entry})
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Replace links to project files that are not pages by the names of the files."""
    here = Path(page.file.src_uri).parent

    def replaced(found: re.Match[str]) -> str:
        text, up, rest, _ = found.groups()
        inside = Path("docs", here, up, rest)
        target = (ROOT / inside).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return found[0]
        name = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else rest
        return text if name in text else f"{text} (`{name}`)"

    return OUTSIDE.sub(replaced, markdown)


SHIM = "https://unpkg.com/iframe-worker/shim"  # makes search work in pages opened from disk
OWN_SHIM = "assets/iframe-worker/index.js"  # version 1.0.4


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Load the one script that the theme would fetch from the web from the site itself."""
    return output.replace(SHIM, get_relative_url(OWN_SHIM, page.url))


def on_post_template(output: str, template_name: str, config: Any) -> str:
    """The same for pages without a source document, such as 404.html."""
    return output.replace(SHIM, f"/{OWN_SHIM}")


def command_line() -> str:
    """The help of every command, as a page."""
    from cvae_protein.cli.main import run
    from cvae_protein.cli.options import app

    names = [command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback]
    parts = ["# Command line\n", _help(run, ["--help"])]
    parts += [f"## {name}\n\n{_help(run, [name, '--help'])}" for name in names]
    return "\n".join(parts)


def _help(run: Any, words: list[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        run(words)
    return f"```text\n{said.getvalue().strip()}\n```\n"
