"""Downloads against a server that cuts connections, ignores Range, fails, redirects, and changes files on the way."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import webserver
from emotune.data.download import download, length_of
from emotune.errors import DataError, DownloadError
from webserver import Site, cut, fail, hang_up, in_pieces, instead, serve, whole, without_length

CONTENT = bytes(range(256)) * 40  # 10,240 bytes, no part like another
SIZE = len(CONTENT)


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with webserver.running() as site:
        yield site


@pytest.fixture
def site(server: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("no_proxy", "*")
    server.files, server.next, server.asked = {"/file": CONTENT}, [], []
    return server


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "part"


def get(site: Site, part: Path, size: int | None = SIZE, path: str = "/file") -> list[float]:
    """Download; the seconds that it would have waited."""
    waits: list[float] = []
    download(site.url + path, part, size=size, pause=waits.append)
    return waits


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_file_comes_whole(site: Site, part: Path, size: int | None) -> None:
    seen: list[tuple[int, int | None]] = []
    assert not download(f"{site.url}/file", part, size=size, progress=lambda *at: seen.append(at))
    assert part.read_bytes() == CONTENT
    assert (len(site.asked), site.sent, site.asked[0].range) == (1, SIZE, None)
    assert seen[-1] == (SIZE, SIZE)
    assert seen == sorted(seen)


@pytest.mark.parametrize("size", [SIZE, None])
def test_after_a_cut_only_the_rest_is_sent(site: Site, part: Path, size: int | None) -> None:
    site.next = [cut(4000), cut(3000)]
    assert get(site, part, size) == [1.0, 1.0]
    assert part.read_bytes() == CONTENT
    assert [one.range for one in site.asked] == [None, "bytes=4000-", "bytes=7000-"]
    assert site.sent == SIZE


def test_a_later_process_goes_on_where_an_earlier_one_stopped(site: Site, part: Path) -> None:
    site.next = [cut(6000), *[fail(503)] * 4]
    with pytest.raises(DownloadError, match=r"the server says 503 .* \(5 tries\)"):
        get(site, part)
    assert length_of(part) == 6000
    assert download(f"{site.url}/file", part, size=SIZE)  # in pieces
    assert part.read_bytes() == CONTENT
    assert (site.asked[-1].range, site.asked[-1].sent) == ("bytes=6000-", SIZE - 6000)


def test_a_server_that_ignores_range_sends_all_of_it_again(site: Site, part: Path) -> None:
    site.next = [cut(4000), whole]
    get(site, part)
    assert part.read_bytes() == CONTENT
    assert site.sent == 4000 + SIZE


def test_another_range_than_the_one_asked_for_is_not_appended(site: Site, part: Path) -> None:
    def shifted(handler: webserver.Handler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 5-{SIZE - 1}/{SIZE}")
        handler.send_header("Content-Length", str(SIZE - 5))
        handler.end_headers()
        handler.body(CONTENT[5:])

    site.next = [cut(4000), shifted]
    get(site, part)
    assert part.read_bytes() == CONTENT


def test_what_is_whole_already_is_not_asked_for(site: Site, part: Path) -> None:
    part.write_bytes(CONTENT)
    get(site, part)
    assert site.asked == []
    get(site, part, size=None)  # nobody knows that it is whole: 416, then from the start
    assert (part.read_bytes(), site.sent) == (CONTENT, SIZE)


def test_more_than_the_server_has_is_dropped(site: Site, part: Path) -> None:
    part.write_bytes(CONTENT + b"more")
    get(site, part, size=None)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again_ever_later(site: Site, part: Path, status: int) -> None:
    site.next = [fail(status)] * 4
    assert get(site, part) == [1.0, 2.0, 4.0, 8.0]
    assert part.read_bytes() == CONTENT


def test_the_server_may_say_how_long_to_wait_but_not_for_ever(site: Site, part: Path) -> None:
    site.next = [fail(503, Retry_After="7"), fail(429, Retry_After="99999"), fail(503, Retry_After="tomorrow")]
    assert get(site, part) == [7.0, 60.0, 4.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_tried_again(site: Site, part: Path, status: int) -> None:
    site.next = [fail(status)]
    with pytest.raises(DownloadError) as caught:
        get(site, part)
    assert (caught.value.status, len(site.asked), part.exists()) == (status, 1, False)


def test_no_answer_is_tried_again(site: Site, part: Path) -> None:
    site.next = [hang_up, hang_up]
    assert get(site, part) == [1.0, 2.0]
    assert part.read_bytes() == CONTENT


def test_a_server_that_never_answers_ends_in_an_error(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with webserver.running() as site:
        url = f"{site.url}/file"
    monkeypatch.setenv("no_proxy", "*")
    waits: list[float] = []
    with pytest.raises(DownloadError, match=r"refused \(5 tries\)") as caught:
        download(url, part, size=SIZE, pause=waits.append)
    assert url in str(caught.value)
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_a_name_that_nobody_knows_is_not_tried_again(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    waits: list[float] = []
    with pytest.raises(DownloadError, match="no network, or the name of the server is not known"):
        download("http://nowhere.invalid/file", part, size=SIZE, pause=waits.append)
    assert (waits, part.exists()) == ([], False)


def test_a_certificate_that_is_not_trusted_is_not_tried_again(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Distrusting:
        def open(self, *args: object, **options: object) -> None:
            reason = ssl.SSLCertVerificationError()
            reason.verify_message = "self-signed certificate"
            raise URLError(reason)

    monkeypatch.setattr("emotune.data.download.build_opener", Distrusting)
    waits: list[float] = []
    with pytest.raises(
        DownloadError, match=r"not trusted \(self-signed certificate\); SSL_CERT_FILE names further ones"
    ):
        download("https://127.0.0.1/file", part, size=SIZE, pause=waits.append)
    assert waits == []


def test_a_proxy_is_used(site: Site, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", site.url)
    site.files["http://data.invalid/file"] = CONTENT  # what a proxy is asked for
    download("http://data.invalid/file", part, size=SIZE)
    assert part.read_bytes() == CONTENT


def test_a_redirect_keeps_the_range(site: Site, part: Path) -> None:
    moved = fail(302, Location="/file")
    site.next = [moved, cut(4000), moved]
    get(site, part, path="/old")
    assert part.read_bytes() == CONTENT
    assert (site.asked[-1].path, site.asked[-1].range, site.sent) == ("/file", "bytes=4000-", SIZE)


def test_redirects_in_a_circle_end(site: Site, part: Path) -> None:
    site.next = [fail(302, Location="/file")] * 100
    with pytest.raises(DownloadError):
        get(site, part)


def test_a_server_that_sends_little_at_a_time(site: Site, part: Path) -> None:
    site.next = [in_pieces]
    assert get(site, part) == []
    assert part.read_bytes() == CONTENT


def test_a_server_that_keeps_silent_is_given_up(site: Site, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    done = Event()
    monkeypatch.setattr("emotune.data.download._TIMEOUT", 0.02)

    def silent(handler: webserver.Handler) -> None:
        done.wait(10)

    site.next = [silent] * 5
    try:
        with pytest.raises(DownloadError, match="no answer within"):
            get(site, part)
    finally:
        done.set()


@pytest.mark.parametrize("answer", [instead(CONTENT + b"x"), without_length(CONTENT + b"x")])
def test_an_answer_that_is_longer_than_the_file_is_not_kept(site: Site, part: Path, answer: webserver.Answer) -> None:
    site.next = [answer]
    with pytest.raises(DataError, match=r"more than the 10,240 bytes of the published file"):
        get(site, part)
    assert not part.exists()


def test_a_shorter_file_is_left_for_its_digest_to_tell(site: Site, part: Path) -> None:
    site.next = [instead(b"another")]
    assert get(site, part) == []
    assert part.read_bytes() == b"another"


def test_an_answer_without_its_length(site: Site, part: Path) -> None:
    site.next = [without_length(CONTENT[:100])]  # to be seen by the length that the catalogue knows
    assert get(site, part) == [1.0]
    assert part.read_bytes() == CONTENT


def test_a_part_that_cannot_be_written_is_the_callers_business(site: Site, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        get(site, tmp_path / "nowhere" / "part")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([cut(0), cut(1), cut(3333), cut(9999), whole, serve, fail(500), hang_up]), max_size=4))
def test_whatever_happens_on_the_way_the_bytes_are_those_of_the_file(
    site: Site, tmp_path_factory: pytest.TempPathFactory, answers: list[webserver.Answer]
) -> None:
    site.next, site.asked = list(answers), []
    part = tmp_path_factory.mktemp("storm") / "part"
    get(site, part)
    assert part.read_bytes() == CONTENT
    assert site.sent <= SIZE * (1 + answers.count(whole))
