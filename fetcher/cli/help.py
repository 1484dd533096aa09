"""L4: help pages that put examples first and options into groups, on a short page and a whole one."""

from textwrap import wrap
from typing import Any, Final

from typer.core import TyperOption

from fetcher.cli.quick import QuickCommand, quickened

#: What ``--help`` explains; it only names the other options, which ``--help-all`` explains too.
COMMON: Final = frozenset(
    {
        *("output_dir", "name", "existing", "no_save", "format"),
        *("concurrency", "per_host", "rate", "host_rate"),
        *("retries", "connect_timeout", "read_timeout", "timeout", "max_size", "deadline"),
        *("header", "user_agent", "proxy", "insecure"),
        *("json", "quiet", "verbose", "progress", "failed", "summary", "dry_run", "config", "kind"),
    }
)

EXAMPLES = """\
  fetcher get urls.txt --concurrency 50
  fetcher get urls.txt | jq -r 'select(.ok|not).url'
"""

RETRY_EXAMPLES = """\
  fetcher retry fetched
  fetcher retry mirror --kind timeout --kind http.503 --read-timeout 120
"""

FOOTER = """\
Names: {host} {path} {dir} {stem} {ext} {query} {n:06} {line} {id} {filename}
{sha256} {urlhash} {date}. Sizes: k M Gi; times: ms s m h.
Environment: FETCHER_CONCURRENCY=20. Lists: docs/sources.md.
Exit: 0 ok, 1 some failed, 2 usage, 3 disk, 4 DIR in use, 5 limit, 130 Ctrl-C.
"""


class PanelCommand(QuickCommand):
    """A command whose options stand below the name of their ``rich_help_panel``, in plain text.

    Typer's own panels need Rich's markup, which takes a third of a second to import.
    """

    examples = EXAMPLES
    _whole = False
    _help_all: Any = None

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` and ``--help-all`` included."""
        if self._help_all is None:
            self._help_all = TyperOption(
                param_decls=["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=self._show_all,
                type_descriptor=self.get_help_option(ctx).type_descriptor,  # type: ignore[union-attr]
            )
        return [*super().get_params(ctx), *quickened([self._help_all])]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does, in one paragraph, then how it is used."""
        self.help = " ".join((self.help or "").split())
        super().format_help_text(ctx, formatter)
        formatter.write(f"\n{self.examples}")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, group by group; what stands in no group is said in the text above."""
        panels: dict[str, list[tuple[str, str]]] = {}
        further: list[str] = []
        for parameter in self.get_params(ctx):
            panel = getattr(parameter, "rich_help_panel", None)
            entry = parameter.get_help_record(ctx)
            if not panel or entry is None:
                continue
            if self._whole or parameter.name in COMMON:
                panels.setdefault(panel, []).append((entry[0], entry[1].replace("[default: ", "[")))
            else:
                further.append(parameter.opts[-1])
        widest = max(len(names) for entries in panels.values() for names, _ in entries)
        for panel, entries in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(names.ljust(widest), text) for names, text in entries])
        if further:
            with formatter.section(f"Further options, which {ctx.command_path} --help-all explains"):
                for line in wrap("  ".join(further), formatter.width - 2, break_on_hyphens=False):
                    formatter.write(f"  {line}\n")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  the signature is Typer's
        """Write what holds for many options."""
        formatter.write(f"\n{FOOTER}")

    def _show_all(self, context: Any, parameter: Any, asked: bool) -> None:  # noqa: ARG002  the signature is Typer's
        """Print the whole page instead of carrying out the command."""
        if asked and not context.resilient_parsing:
            self._whole = True
            print(context.get_help(), flush=True)
            context.exit()


class RetryCommand(PanelCommand):
    """The same with other examples."""

    examples = RETRY_EXAMPLES
