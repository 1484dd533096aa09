"""The command that fetches the rest: ready to be pasted, without the secrets of the first one."""

import pytest

from fetcher.cli.show import again


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("get|urls.txt|-c|5", "fetcher get urls.txt -c 5"),
        ("get|my urls.txt|-o|it's", """fetcher get 'my urls.txt' -o 'it'"'"'s'"""),
        ("get|a|-H|Authorization: Bearer SECRET", "fetcher get a -H 'Authorization: ***'"),
        ("get|-HX-Key: SECRET|a", "fetcher get '-HX-Key: ***' a"),
        ("get|-kqH|X-Key: SECRET|-v", "fetcher get -kqH 'X-Key: ***' -v"),
        ("get|-vnHX-Key:SECRET|a", "fetcher get '-vnHX-Key: ***' a"),
        ("get|--header|X: SECRET|--header=Y: SECRET|a", "fetcher get --header 'X: ***' '--header=Y: ***' a"),
        ("get|-H|X: one\nSECRET|a", "fetcher get -H 'X: ***' a"),
        ("get|-HX: one\nSECRET|a", "fetcher get '-HX: ***' a"),
        ("get|-H|SECRET|a", "fetcher get -H '***' a"),
        ("get|-H|@secrets.txt|-H@more|a", "fetcher get -H @secrets.txt -H@more a"),
        ("get|-H|-H: SECRET|-c|5", "fetcher get -H '-H: ***' -c 5"),
        ("get|http://u:SECRET@h/a?b@c", "fetcher get 'http://***@h/a?b@c'"),
        ("get|a|--proxy|http://u:SECRET@p:1", "fetcher get a --proxy 'http://***@p:1'"),
        ("get|a|--proxy=u:SECRET@p:1", "fetcher get a '--proxy=***@p:1'"),
        ("get|a|--name={n:06}{ext}", "fetcher get a '--name={n:06}{ext}'"),
        ("get|\x1b[31m\u202e|a\udce9", r"fetcher get '\x1b[31m\u202e' 'a\udce9'"),
        ("get|-o|-H|a", "fetcher get -o -H '***'"),
    ],
)
def test_again(typed: str, shown: str) -> None:
    """Words are quoted for a shell and harmless on a terminal; header values and passwords are blotted out."""
    assert again(["fetcher", *typed.split("|")]) == shown
