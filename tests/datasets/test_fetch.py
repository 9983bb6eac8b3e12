from __future__ import annotations

import hashlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml

from jamie_sc import datasets
from jamie_sc._settings import settings
from jamie_sc.datasets import _manifest

CONTENT = b"cells\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no folder of data."""
    monkeypatch.setattr(settings, "datasetdir", tmp_path / "cache")
    monkeypatch.delenv("JAMIE_SC_DATA_DIR", raising=False)
    return tmp_path / "cache" / "toy"


@pytest.fixture
def server(tmp_path):
    """A server on this machine that publishes toy.txt."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "toy.txt").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "www"))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/toy.txt"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Write the manifest of the data set `toy`."""

    def publish(url="http://127.0.0.1:1/toy.txt", sha256=SHA256, **fields):
        manifest = {
            "name": "toy",
            "description": "a toy",
            "source": "https://example.org/toy",
            "citation": "nobody",
            "licence": "none",
            "files": [{"name": "toy.txt", "url": url, "sha256": sha256}],
            "modalities": ["rna"],
            "shape": {"rna": [1, 1]},
            "role_in_paper": "none",
        }
        (tmp_path / "toy.yaml").write_text(yaml.safe_dump(manifest | fields))

    monkeypatch.setattr(_manifest, "PACKAGED", tmp_path)
    return publish


def put(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.txt").write_bytes(content)
    return folder / "toy.txt"


def test_the_folder_of_the_environment_comes_first(publish, cache, tmp_path, monkeypatch):
    publish()
    put(cache, CONTENT)
    path = put(tmp_path / "data", CONTENT)
    monkeypatch.setenv("JAMIE_SC_DATA_DIR", str(tmp_path / "data"))
    assert datasets.fetch("toy") == {"toy.txt": path}


def test_the_cache_comes_before_the_network(publish, cache, tmp_path, monkeypatch):
    publish()
    path = put(cache, CONTENT)
    monkeypatch.setenv("JAMIE_SC_DATA_DIR", str(tmp_path / "has no such file"))
    assert datasets.fetch("toy") == {"toy.txt": path}


def test_download_goes_to_the_cache(publish, server, cache):
    publish(url=server)
    path = datasets.fetch("toy")["toy.txt"]
    assert path == cache / "toy.txt"
    assert path.read_bytes() == CONTENT
    publish()  # the server is not asked again
    assert datasets.fetch("toy") == {"toy.txt": path}


@pytest.mark.parametrize("where", ["environment", "cache"])
def test_wrong_checksum_says_where_and_what_to_do(publish, cache, tmp_path, monkeypatch, where):
    publish()
    path = put(cache if where == "cache" else tmp_path / "data", b"something else")
    monkeypatch.setenv("JAMIE_SC_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ValueError, match="SHA-256") as error:
        datasets.fetch("toy")
    for words in (
        str(path),
        SHA256,
        hashlib.sha256(b"something else").hexdigest(),
        "Delete it",
        "toy.txt in its place",
    ):
        assert words in str(error.value)
    assert path.exists()


def test_wrong_download_is_not_kept(publish, server, cache):
    publish(url=server, sha256="0" * 64)
    with pytest.raises(ValueError, match=f"{server} gave another file.*{'0' * 64}.*{SHA256}"):
        datasets.fetch("toy")
    assert list(cache.iterdir()) == []


def test_unknown_checksum_is_refused_unless_trusted(publish, server, cache):
    publish(url=server, sha256=None)
    with pytest.raises(ValueError, match=r"toy\.txt are not known.*trust_unverified=True"):
        datasets.fetch("toy")
    assert not cache.exists()
    assert datasets.fetch("toy", trust_unverified=True)["toy.txt"].read_bytes() == CONTENT
    with pytest.raises(ValueError, match="trust_unverified=True"):
        datasets.fetch("toy")


def test_no_network_names_the_url_and_the_variable(publish):
    publish()
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:1/toy\.txt.*JAMIE_SC_DATA_DIR"):
        datasets.fetch("toy")


def test_missing_page_is_a_failed_download(publish, server):
    publish(url=server.replace("toy.txt", "absent.txt"))
    with pytest.raises(OSError, match="404"):
        datasets.fetch("toy")


def test_manifest_without_files_names_the_source(publish):
    publish(files=[], notes="Ask them.")
    with pytest.raises(ValueError, match=r"https://example\.org/toy\. Ask them\."):
        datasets.fetch("toy", trust_unverified=True)
