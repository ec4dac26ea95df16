"""`dualform serve`: the folder's numbers to the bit, on this machine alone, and nothing else."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from dualform.cli import main
from dualform.errors import FileError, InputError
from dualform.reports.attention_folder import INDEX, AttentionFolder, write_attention_folder
from dualform.reports.attention_page import write_attention_page
from dualform.reports.attention_view import with_aggregates
from dualform.reports.serve import attention_server
from tests.reports.test_attention_page import first
from tests.reports.views import HOSTILE, view


@contextmanager
def served(path) -> Iterator[int]:
    """A server in a thread of its own; gives its port."""
    with attention_server(path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request, with its target sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def floats(answer: tuple[int, dict[str, str], bytes]) -> np.ndarray:
    assert answer[0] == 200, answer
    return np.frombuffer(answer[2], "<f4")


@pytest.mark.parametrize("causal", [True, False])
def test_the_folder_gives_every_number(tmp_path, causal):
    """Rows, columns and regions of each head, the mean and the strongest are the view's, to the bit."""
    made = view("abcdefghijkl", causal=causal)
    folder = AttentionFolder(write_attention_folder(made, tmp_path / "maps"))
    for i, layer in enumerate(made.layers):
        for k, (name, a) in enumerate(with_aggregates(layer)):
            packed = folder.map(i, name if name in ("mean", "max") else k)
            for t in range(12):
                np.testing.assert_array_equal(folder.row(packed, t), a[t])
                np.testing.assert_array_equal(folder.column(packed, t), a[:, t])
            seen = np.where(np.tril(np.ones_like(a)) > 0, a, np.nan) if causal else a
            np.testing.assert_array_equal(folder.region(packed, 2, 1, 5, 5), seen[2:7, 1:6])
            coarse, block = folder.region(packed, 1, 0, 11, 3), a[1 + 3 : 1 + 7, 0:3]  # cut at 0, 3, 7
            assert coarse[1, 0] == block.flat[np.abs(block).argmax()]
            assert np.isnan(coarse[0, 2]) == causal
    np.testing.assert_array_equal(folder.map(1, "mean"), folder.map(1, 0))  # one head


def test_the_server_answers_with_the_page_and_the_numbers(tmp_path):
    """The page may read from its own server alone, and what it reads is float32 of the map asked for."""
    made = view(HOSTILE)
    with served(write_attention_folder(made, tmp_path / "maps")) as port:
        status, headers, page = ask(port, "/")
        assert status == 200 and b"connect-src &#39;self&#39;" in page or b"connect-src 'self'" in page
        assert (
            headers["X-Content-Type-Options"] == "nosniff"
            and "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        )
        content = json.loads(first(r'id="view">(.*?)</script>', page.decode()))
        assert content["served"] is True and tuple(content["tokens"]) == HOSTILE
        np.testing.assert_array_equal(floats(ask(port, "/map/0/1/row/5")), made.layers[0].maps[1][5])
        np.testing.assert_array_equal(floats(ask(port, "/map/0/mean/column/2")), made.layers[0].maps.mean(0)[:, 2])
        assert floats(ask(port, "/map/1/0/region/0/0/11/4")).shape == (16,)


def test_only_what_is_there_can_be_asked_for(tmp_path):
    """Paths out of the folder, files in it, other methods, and requests meant for another host are refused."""
    folder = write_attention_folder(view(), tmp_path / "maps")
    (tmp_path / "secret.txt").write_text("secret")
    with served(folder) as port:
        for target in (
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/attention.json",
            "/layer-0001.npy",
            "//etc/passwd",
            "/map",
        ):
            status, _, body = ask(port, target)
            assert (status, body) == (404, b"There is nothing here."), target
        beyond = ("/map/2/0/row/0", "/map/0/9/row/0", "/map/0/0/row/8", "/map/0/0/column/8", "/map/0/0/region/4/0/5/5")
        for target in (*beyond, "/map/0/0/region/0/0/4/0", "/map/0/0/region/0/0/4/8"):
            assert ask(port, target)[0] == 404, target
        assert b"there is no token 8; there are 8." in ask(port, "/map/0/0/row/8")[2]
        for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
            assert ask(port, "/", method)[:1] == (405,), method
        for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1:{port + 1}", "127.0.0.1"):
            assert ask(port, "/", Host=host)[0] == 403, host
        assert ask(port, "/", Host=f"localhost:{port}")[0] == 200


def test_it_listens_on_loopback_alone(tmp_path):
    """No other machine can reach it."""
    with attention_server(write_attention_page(view(), tmp_path / "page.html")) as server:
        assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_page_is_served_as_it_is(tmp_path):
    """A page's bytes come back; there is nothing beside it."""
    path = write_attention_page(view(), tmp_path / "page.html")
    with served(path) as port:
        assert ask(port, "/")[2] == path.read_bytes()
        assert ask(port, "/page.html")[0] == 404


def test_a_port_that_cannot_be_had(tmp_path):
    """A port in use or out of range is said, with what to do."""
    path = write_attention_page(view(), tmp_path / "page.html")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} is in use by another program"):
            attention_server(path, port)
    with pytest.raises(InputError, match=r"--port 70000: a port is from 1 to 65535"):
        attention_server(path, 70000)


def test_what_is_no_page_or_folder(tmp_path, capsys):
    """A missing, foreign or damaged path gets a sentence and exit code 2."""
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "foreign.html").write_text("<h1>hello</h1>")
    with pytest.raises(FileError, match="is no attention page of this version"):
        attention_server(tmp_path / "foreign.html")
    with pytest.raises(FileError, match=r"is no folder of attention maps: it has no attention\.json"):
        attention_server(tmp_path)
    folder = write_attention_folder(view(), tmp_path / "maps")
    good = (folder / INDEX).read_text()
    for text, message in [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (json.dumps(json.loads(good) | {"layers": [{"heads": [], "small": 3}]}), "is damaged"),
        ('{"format": "x"}', "of another format"),
        ('{"format": "dualform attention folder 2"}', "is damaged"),
        (
            good.replace('"tokens": ["a", ', '"tokens": ['),
            r"holds float32 of shape \(4, 36\) where float32 of \(4, 28\)",
        ),
    ]:
        (folder / INDEX).write_text(text)
        with pytest.raises(FileError, match=message):
            attention_server(folder)
    (folder / INDEX).write_text(good)
    for data in (
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x0b\x00{[]: 1}   \n",
        b"\x93NUMPY\x01\x00\x0b\x00(((((((((\n",
        b"PK",
    ):
        (folder / "layer-0001.npy").write_bytes(data)
        with pytest.raises(FileError, match=r"layer-0001\.npy' cannot be read"):
            attention_server(folder)
    (folder / "layer-0001.npy").unlink()
    with pytest.raises(FileError, match=r"layer-0001\.npy' is missing"):
        attention_server(folder)


def test_another_folder_is_not_written_over(tmp_path):
    """A folder with something else in it is left alone; one of maps is replaced."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="is no folder of attention maps. Give another path"):
        write_attention_folder(view(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    folder = write_attention_folder(view(), tmp_path / "maps")
    write_attention_folder(view("abc", heads=(1,)), folder)
    assert AttentionFolder(folder).time == 3


def test_ctrl_c_ends_it_well(tmp_path):
    """The command says where it serves, and Ctrl-C ends it with exit code 0."""
    path = write_attention_page(view(), tmp_path / "page.html")
    command = [sys.executable, "-c", "import sys; from dualform.cli import main; sys.exit(main())"]
    process = subprocess.Popen([*command, "serve", str(path), "--no-browser"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(first(r"http://127\.0\.0\.1:(\d+)/", line))
        assert ask(port, "/")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_reader_that_goes_away_is_not_complained_of(tmp_path, capsys):
    """A connection that is broken off in a request ends that request alone, and prints no traceback."""
    with attention_server(write_attention_page(view(), tmp_path / "page.html")) as server:
        try:
            raise ConnectionResetError(104, "Connection reset by peer")
        except ConnectionResetError:
            server.handle_error(None, None)  # pyright: ignore[reportArgumentType] - neither is looked at
    assert capsys.readouterr() == ("", "")
