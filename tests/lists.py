"""Lists as files, in every form that there is."""

from functools import partial

from fetcher.options import Form
from fetcher.sources.forms import reader_of
from fetcher.sources.listfile import ListSource


def list_at(path: str, descriptor: int | None = None, form: Form = Form.AUTO) -> ListSource:
    """Return the source of a list, whose form is told by its bytes unless it is given."""
    return ListSource(path, partial(reader_of, form, "url"), descriptor)
