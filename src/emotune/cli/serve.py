"""`emotune serve`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from emotune.cli.options import (
    DEFAULT_MAX_WINDOWS,
    DeviceOption,
    JsonOption,
    MaxWindowsOption,
    QuietOption,
    ThreadsOption,
    reported,
)
from emotune.cli.predict import newest_or_default
from emotune.cli.terminal import Terminal, emit_json, flush_results
from emotune.errors import MissingInputError, Place, UsageError, missing_library

_KEY = "EMOTUNE_API_KEY"
_LOCAL = ("127.0.0.1", "::1", "localhost")


@reported
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Run directories, model directories, hub ids, or default; NAME=MODEL for another name than that of "
            "the directory. The first is used by requests that name none.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes, each with models of its own.")] = 1,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_windows: MaxWindowsOption = DEFAULT_MAX_WINDOWS,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a batch, at most.")] = 1024,
    queue_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that wait for a model; with more, requests are refused (429).")
    ] = 32_768,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds in which a request is answered.")] = 30.0,
    max_body: Annotated[int, typer.Option(min=100, help="Bytes of a request, at most.")] = 1 << 20,
    max_texts: Annotated[int, typer.Option(min=1, help="Texts of a request, at most.")] = 1000,
    max_characters: Annotated[int, typer.Option(min=1, help="Characters of a text, at most.")] = 100_000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help=f"File with the key that requests must have [default: {_KEY}, or no key]."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Origin whose pages may use the server, or *; may be repeated."),
    ] = None,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Log a line of JSON for each request, without its texts.")
    ] = False,
    log_texts: Annotated[
        bool, typer.Option("--log-texts", help="Log a line of JSON for each request, with its texts and labels.")
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Serve models over HTTP, with the answers of `emotune predict`."""
    terminal = Terminal(quiet=quiet)
    key = _read_key(api_key_file)
    try:
        from emotune.serving.app import AppOptions
        from emotune.serving.models import BatchOptions, named_models
        from emotune.serving.server import bind
        from emotune.serving.server import serve as run
    except ImportError as error:
        raise missing_library("serving", error.name, "serve") from None
    options = AppOptions(
        models=named_models(models or [newest_or_default(terminal)]),
        batches=BatchOptions(device, threads, max_windows, batch_tokens, queue_tokens),
        timeout=timeout,
        max_body=max_body,
        max_texts=max_texts,
        max_characters=max_characters,
        api_key=key,
        cors_origins=tuple(cors_origin or ()),
        log_requests=log_requests,
        log_texts=log_texts,
    )
    listener = bind(host, port)
    port = listener.getsockname()[1]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def started() -> None:
        if key is None and host not in _LOCAL:
            terminal.warn(f"everybody who reaches {url} can use it: there is no key (--api-key-file)")
        terminal.info(
            f"serving {', '.join(options.models)} on {url} (a page; the routes: {url}/docs; stop with Ctrl-C)"
        )
        if as_json:
            emit_json({"url": url, "host": host, "port": port, "pid": os.getpid(), "models": options.models})
            flush_results()

    with listener:
        run(options, listener, workers, started)
    terminal.info("stopped; all requests were answered")


def _read_key(path: Path | None) -> str | None:
    """Return the key of a file, or of the environment; None without both. Raises UsageError, MissingInputError."""
    if path is None:
        key = os.environ.get(_KEY)
        where: Place | None = None
    else:
        try:
            key, where = path.read_text(encoding="utf-8").strip(), Place(path)
        except OSError as error:
            raise MissingInputError(f"cannot read the key: {error.strerror}", place=Place(path)) from None
        except UnicodeDecodeError:
            raise UsageError("the key is not UTF-8 text", place=Place(path)) from None
    if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
        hint = "Make one, such as: openssl rand -hex 32"
        raise UsageError(
            f"the key {'' if where else f'in {_KEY} '}is empty, or is not one word", place=where, hint=hint
        )
    return key
