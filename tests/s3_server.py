"""A program: a server on loopback that speaks S3 and, to who comes with a token, Google's dialect; prints its port.

Google's XML interface is that of S3 but for the names of header fields, and for objects that must not be there yet,
which have the generation 0.
"""

import logging
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.s3 import SIGNED

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def main() -> None:
    """Serve until standard input ends, as it does with whoever has started this."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3: WSGIApplication = DomainDispatcherApplication(create_backend_app)

    def both(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if not environ.get("HTTP_AUTHORIZATION", "").startswith("Bearer "):
            return s3(environ, start_response)
        environ["HTTP_AUTHORIZATION"] = SIGNED
        if environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None) == "0":
            environ["HTTP_IF_NONE_MATCH"] = "*"
        for name in [name for name in environ if name.startswith("HTTP_X_GOOG_")]:
            environ[name.replace("_GOOG_", "_AMZ_")] = environ.pop(name)

        def start(status: str, headers: list[tuple[str, str]], *rest: object) -> object:
            named = [(name.lower().replace("x-amz-", "x-goog-"), value) for name, value in headers]
            return start_response(status, named, *rest)  # type: ignore[arg-type]

        return s3(environ, start)  # type: ignore[arg-type]

    server = make_server("127.0.0.1", 0, both, threaded=True, request_handler=MotoRequestHandler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
