#!/usr/bin/env python3
"""Of data/fetch*.sh: downloads from a server on this machine that breaks off, lies and refuses."""
import hashlib
import http.server
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import unittest

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
HUB = "huggingface.co/datasets/kjj0/fineweb10B-gpt2/resolve/main/"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def shard(tokens):
    return struct.pack("<3i", 20240520, 1, len(tokens)).ljust(1024, b"\0") + struct.pack(
        f"<{len(tokens)}H", *tokens)


class Remote:
    """A file of the server, and how it is served."""

    def __init__(self, content, breaks_off_after=(), takes_ranges=True, announced_sha256=None,
                 answers=(), redirects_to=None, says_length=True):
        self.content = content
        self.redirects_to = redirects_to  # an address
        self.says_length = says_length
        self.breaks_off_after = list(breaks_off_after)  # bytes, of one transfer after the other
        self.takes_ranges = takes_ranges
        self.announced_sha256 = announced_sha256
        self.answers = list(answers)  # codes in place of the first transfers
        self.sent = []  # (first byte, bytes) of each transfer


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_HEAD(self):
        remote = self.start(0, None)
        if remote:
            self.end_headers()

    def do_GET(self):
        remote = self.server.files.get(self.path.lstrip("/"))
        if remote and remote.answers:
            return self.send_error(remote.answers.pop(0))
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked and remote and remote.takes_ranges else 0
        remote = self.start(first, asked)
        if not remote:
            return
        self.end_headers()
        part = remote.content[first:]
        if remote.breaks_off_after:
            part = part[:remote.breaks_off_after.pop(0)]
        self.wfile.write(part)
        remote.sent.append((first, len(part)))
        self.close_connection = True

    def start(self, first, asked):
        remote = self.server.files.get(self.path.lstrip("/"))
        if not remote:
            self.send_error(404)
            return None
        if remote.redirects_to:
            self.send_response(302)
            self.send_header("Location", remote.redirects_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if asked and remote.takes_ranges and first >= len(remote.content):
            self.send_error(416)
            return None
        self.send_response(206 if asked and remote.takes_ranges else 200)
        if asked and remote.takes_ranges:
            size = len(remote.content)
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        if remote.says_length:
            self.send_header("Content-Length", str(len(remote.content) - first))
        if remote.announced_sha256:
            self.send_header("X-Linked-ETag", f'"{remote.announced_sha256}"')
        return remote


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class FetchTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.files = {}
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.mirror = f"http://127.0.0.1:{self.server.server_port}"

    def run_script(self, *command):
        environment = os.environ | {"LATHE_DATA_MIRROR": self.mirror, "fetch_wait": "0"}
        return subprocess.run([str(word) for word in command], env=environment, capture_output=True,
                              text=True, timeout=60, check=False)

    def fetch(self, remote, *more, serve=True):
        """fetch of one file, as the scripts call it."""
        if serve:
            self.server.files["host/file"] = remote
        path = self.folder / "deep" / "file"
        script = f'source {DATA}/fetch.sh; fetch https://host/file "$@"'
        return self.run_script("bash", "-euo", "pipefail", "-c", script, "fetch", path, *more), path

    def assert_fetched(self, done, path, content):
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(path.read_bytes(), content)
        self.assertEqual([p.name for p in path.parent.iterdir()], [path.name])

    def assert_refused(self, done, path, *said):
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for words in said:
            self.assertIn(words, done.stderr)
        self.assertFalse(path.exists())

    def test_a_file_comes_once(self):
        remote = Remote(b"content" * 1000)
        done, path = self.fetch(remote, sha256(remote.content))
        self.assert_fetched(done, path, remote.content)
        done, path = self.fetch(remote, sha256(remote.content))
        self.assert_fetched(done, path, remote.content)
        self.assertEqual(remote.sent, [(0, 7000)])

    def test_what_breaks_off_goes_on(self):
        remote = Remote(bytes(range(256)) * 40, breaks_off_after=[1000, 0, 3000])
        done, path = self.fetch(remote, sha256(remote.content))
        self.assert_fetched(done, path, remote.content)
        self.assertEqual(remote.sent, [(0, 1000), (1000, 0), (1000, 3000), (4000, 6240)])

    def test_a_later_start_goes_on_and_a_lasting_fault_is_told(self):
        remote = Remote(b"0123456789" * 100, breaks_off_after=[100] * 5)
        done, path = self.fetch(remote)
        self.assert_refused(done, path, "5 attempts failed", "at byte 500")
        done, path = self.fetch(remote)
        self.assert_fetched(done, path, remote.content)
        self.assertEqual(remote.sent[-1], (500, 500))

    def test_a_redirection_does_not_say_how_long_a_file_is(self):
        for content in (b"content" * 1000, b""):
            self.server.files["elsewhere"] = Remote(content, says_length=False)
            done, path = self.fetch(Remote(b"", redirects_to="/elsewhere"))
            self.assert_fetched(done, path, content)
            path.unlink()

    def test_an_empty_file(self):
        done, path = self.fetch(Remote(b""))
        self.assert_fetched(done, path, b"")

    def test_a_server_without_ranges_starts_over(self):
        remote = Remote(b"0123456789" * 100, breaks_off_after=[100], takes_ranges=False)
        done, path = self.fetch(remote, sha256(remote.content))
        self.assert_fetched(done, path, remote.content)

    def test_a_part_that_is_whole_or_too_long(self):
        remote = Remote(b"0123456789" * 100)
        for part, transfers in ((remote.content, []), (remote.content + b"x", [(0, 1000)])):
            path = self.folder / "deep" / "file"
            path.unlink(missing_ok=True)
            path.parent.mkdir(exist_ok=True)
            path.with_name("file.partial").write_bytes(part)
            done, path = self.fetch(remote, sha256(remote.content))
            self.assert_fetched(done, path, remote.content)
            self.assertEqual(remote.sent, transfers)

    def test_a_busy_server_is_asked_again(self):
        remote = Remote(b"content", answers=[503, 429])
        done, path = self.fetch(remote)
        self.assert_fetched(done, path, remote.content)

    def test_another_sum_is_refused_and_removed(self):
        for remote, more in ((Remote(b"content"), [sha256(b"other")]),
                             (Remote(b"content", announced_sha256=sha256(b"other")), [])):
            done, path = self.fetch(remote, *more)
            self.assert_refused(done, path, sha256(b"content"), f"must be {sha256(b'other')}")
            self.assertEqual(list(path.parent.iterdir()), [])

    def test_the_sum_that_is_known_goes_before_the_one_announced(self):
        remote = Remote(b"content", announced_sha256=sha256(b"other"))
        done, path = self.fetch(remote, sha256(b"content"))
        self.assert_fetched(done, path, remote.content)

    def test_refusals_are_one_line(self):
        done, path = self.fetch(None, serve=False)
        self.assert_refused(done, path, "host/file: the server answers 404")
        self.mirror = "http://127.0.0.1:1"
        done, path = self.fetch(Remote(b""))
        self.assert_refused(done, path, "no network, or none to http://127.0.0.1:1/host/file")

    def test_fineweb(self):
        shards = {"fineweb_val_000000.bin": shard([50256, 1, 2]),
                  "fineweb_train_000001.bin": shard([50256, 3]),
                  "fineweb_train_000002.bin": shard([])}
        for name, content in shards.items():
            self.server.files[HUB + name] = Remote(content, announced_sha256=sha256(content))
        script = (DATA / "fetch_fineweb.sh", "fineweb10B", 2, self.folder)
        done = self.run_script(*script)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual({p.name: p.read_bytes() for p in self.folder.iterdir()}, shards)
        # One that a copy has cut short is seen.
        (self.folder / "fineweb_train_000001.bin").write_bytes(shard([50256, 3])[:-2])
        done = self.run_script(*script)
        self.assertEqual(done.returncode, 1)
        self.assertIn("has 1026 bytes, its header says 1028", done.stderr)

    def test_what_is_no_shard_is_refused(self):
        model = struct.pack("<3i", 20240326, 1, 0).ljust(1024, b"\0")
        for content, problem in ((shard([1])[:-1], "has 1025 bytes, its header says 1026"),
                                 (model, "is no token shard (magic 20240326, version 1)"),
                                 (b"<html>Sign in</html>", "is no token shard (magic 1836345404")):
            self.server.files[HUB + "fineweb_val_000000.bin"] = Remote(content)
            done = self.run_script(DATA / "fetch_fineweb.sh", "fineweb10B", 1, self.folder)
            self.assert_refused(done, self.folder / "fineweb_val_000000.bin", problem)

    def test_fineweb_arguments(self):
        for arguments in (["fineweb1B"], ["fineweb10B", "0"], ["fineweb10B", "104"],
                          ["fineweb10B", "08"]):
            done = self.run_script(DATA / "fetch_fineweb.sh", *arguments)
            self.assert_refused(done, self.folder / "none", arguments[-1] + ": must be")

    def test_hellaswag(self):
        content = struct.pack("<4i", 20240522, 1, 0, 0).ljust(1024, b"\0")
        address = "huggingface.co/datasets/karpathy/llmc-starter-pack/resolve/main/hellaswag_val.bin"
        self.server.files[address] = Remote(content)
        done = self.run_script(DATA / "fetch_hellaswag.sh", self.folder)
        self.assert_fetched(done, self.folder / "hellaswag_val.bin", content)

    def test_real_files_have_the_sums_stated(self):
        if "LATHE_TEST_DATA" not in os.environ:
            self.skipTest("LATHE_TEST_DATA is not set: no real files to serve")
        real = pathlib.Path(os.environ["LATHE_TEST_DATA"])
        shakespeare = "raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
        vocabulary = "openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"
        for script, address, source, name in (
                ("fetch_tinyshakespeare.sh", shakespeare, "data/tinyshakespeare.txt",
                 "tinyshakespeare.txt"),
                ("fetch_gpt2_tokenizer.sh", vocabulary, "gpt2/vocab.bpe", "vocab.bpe")):
            content = (real / source).read_bytes()
            self.server.files[address] = Remote(content)
            done = self.run_script(DATA / script, self.folder / script)
            self.assert_fetched(done, self.folder / script / name, content)

    def test_tinystories_by_their_sums(self):
        address = "huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-valid.txt"
        self.server.files[address] = Remote(b"Once upon a time")
        done = self.run_script(DATA / "fetch_tinystories.sh", self.folder)
        self.assert_refused(done, self.folder / "TinyStoriesV2-GPT4-valid.txt",
                            "must be 6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d")


if __name__ == "__main__":
    unittest.main()
