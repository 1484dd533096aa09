"""L4: help pages that put examples first and options into groups."""

from typing import Any

from fetcher.cli.quick import QuickCommand

EXAMPLES = """\
  fetcher get urls.txt --concurrency 50
  fetcher get urls.txt | jq -r 'select(.ok|not).url'
"""

RETRY_EXAMPLES = """\
  fetcher retry fetched
  fetcher retry mirror --kind timeout --kind http.503 --read-timeout 120
"""

FOOTER = """\
Names: {host} {path} {dir} {stem} {ext} {query} {n:06} {line} {sha256} {urlhash}
{date}. Sizes: k M Gi; times: ms s m h. Environment: FETCHER_CONCURRENCY=20.
Exit: 0 ok, 1 some failed, 2 usage, 3 disk, 4 DIR in use, 5 limit, 130 Ctrl-C.
"""


class PanelCommand(QuickCommand):
    """A command whose options stand below the name of their ``rich_help_panel``, in plain text.

    Typer's own panels need Rich's markup, which takes a third of a second to import.
    """

    examples = EXAMPLES

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does, then how it is used."""
        super().format_help_text(ctx, formatter)
        formatter.write(f"\n{self.examples}")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, group by group; what stands in no group is said in the text above."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            panel = getattr(parameter, "rich_help_panel", None)
            entry = parameter.get_help_record(ctx)
            if panel and entry is not None:
                panels.setdefault(panel, []).append((entry[0], entry[1].replace("[default: ", "[")))
        widest = max(len(names) for entries in panels.values() for names, _ in entries)
        for panel, entries in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(names.ljust(widest), text) for names, text in entries])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  the signature is Typer's
        """Write what holds for many options."""
        formatter.write(f"\n{FOOTER}")


class RetryCommand(PanelCommand):
    """The same with other examples."""

    examples = RETRY_EXAMPLES
