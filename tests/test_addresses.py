"""What of an address is shown, stored and compared."""

import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.addresses import PlainFormatter, redacted, redacted_values, without_secrets
from trainer.cli import main
from trainer.data.remote.storage import Interrupted
from trainer.errors import DataError, error_of, note_of


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("shards/{000..009}.tar", "shards/{000..009}.tar"),
        ("a/what?.tar", "a/what?.tar"),
        ("a/what?token=1.tar", "a/what?token=1.tar"),
        ("s3://bucket/a.tar?versionId=1", "s3://bucket/a.tar?versionId=1"),
        ("s3://key:secret@bucket/a.tar", "s3://bucket/a.tar"),
        ("hf://org/set?split=train", "hf://org/set?split=train"),
        ("hf://org/set@main/a.tar?token=hf_x", "hf://org/set@main/a.tar?token=REDACTED"),
        ("run://refusals?key=0123ab", "run://refusals?key=0123ab"),
        ("https://host/{0..3}.tar?sig=a%3Ab&x=1", "https://host/{0..3}.tar"),
        ("https://host/@scope/a@b.tar", "https://host/@scope/a@b.tar"),
        ("https://host:8443/a@b.tar", "https://host:8443/a@b.tar"),
        ("HTTPS://host/corpora/web?sig=abc", "HTTPS://host/corpora/web"),
        ("https://host/corpora/web#token=abc", "https://host/corpora/web"),
        ("https://user:pass@host/a.tar", "https://host/a.tar"),
        ("https://token@host:8443/a.tar", "https://host:8443/a.tar"),
        ("https:/user:pass@host/a.tar", "https:/host/a.tar"),
        ("https://user:pa/ss@host/a.tar", "https://host/a.tar"),
        ("https://user:p@ss@host/a.tar", "https://host/a.tar"),
        ("https://host/a.tar?as=b.tar", "https://host/a.tar"),
        ("https://host/get?file=a.tar", "https://host/get?file=a.tar"),
        ("https://host/get?file=a.tar&X-Amz-Signature=1&id=3", "https://host/get?file=a.tar&id=3"),
        ("https://host/get?k=3f&file=a.tar", "https://host/get?file=a.tar"),
        ("https://me@host/get?u=https://u:p@h/a.tar", "https://host/get?u=https://h/a.tar"),
        ("https://host/get?url=https%3A%2F%2Fu%3Ap%40h/a.tar", "https://host/get"),
        ("http://h/a.tgz?s=1::b.tar::http://h/c.tar?s=2", "http://h/a.tgz::b.tar::http://h/c.tar"),
    ],
)
def test_an_address_is_shown_without_its_secrets(given: str, shown: str) -> None:
    """Would catch a signature or password that is stored, and two tars of one name."""
    assert without_secrets(given) == shown
    assert without_secrets(shown) == shown, "what was stored is compared with what is given"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("https://u:p@h/a.tar?sig=x: no such file", "https://h/a.tar: no such file"),
        ("refused (https://h/a?sig=x&y=z), as", "refused (https://h/a), as"),
        ("404, url='https://h/a?sig=it's'", "404, url='https://h/a'"),
        ("exceeded with url: /a?X-Amz-Signature=ab&b=1", "url: /a?X-Amz-Signature=REDACTED&b=1"),
        ("?AWSAccessKeyId=a&Expires=1", "?AWSAccessKeyId=REDACTED&Expires=1"),
        ("proxy http://me:pw@proxy:3128 fails", "proxy http://proxy:3128 fails"),
        ("model.layers=8: error: 3/4@b", "model.layers=8: error: 3/4@b"),
    ],
)
def test_what_is_said_is_without_secrets(said: str, shown: str) -> None:
    """Would catch the message of a library, in which the address stands somewhere or in parts."""
    assert redacted(said).endswith(shown)


@given(
    st.sampled_from(["https", "http", "HTTP"]),
    st.text("abcXYZ0189-_.~%+=:$!*,", max_size=12),
    st.sampled_from(["sig", "X-Amz-Signature", "token", "anything"]),
    st.sampled_from(["a.jsonl", "shards/{0..3}.tar", "get", ""]),
)
def test_no_secret_is_left_in_an_address(scheme: str, noise: str, name: str, path: str) -> None:
    """Would catch a user, password or parameter that some other sign beside it protects."""
    said = noise.replace(":", "")  # two of them part addresses
    address = f"{scheme}://uS3CRET:{noise}S3CRET@host/{path}?x={said}&{name}={said}S3CRET"
    assert "S3CRET" not in without_secrets(address)
    assert "S3CRET" not in redacted(f"reading {address} failed")
    assert "S3CRET" not in str(redacted_values({"a": [address, 1, None], "b": f"x,{address}"}))


def test_no_error_tells_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Would catch an error line, a note to another process or a --debug trace that holds one."""
    secret = "https://me:S3CRET@host/a.tar?sig=S3CRET"
    error = DataError(f"{secret}: damaged")
    assert str(error) == "https://host/a.tar: damaged" == str(error_of(note_of(error)))
    assert main(["recipe", secret, "--debug"]) == 2
    assert main(["train", "tiny", f"data.mixture.0.corpus={secret}", "--show"]) == 2
    said = "".join(capsys.readouterr())
    assert "host/a.tar" in said and "S3CRET" not in said


def test_no_log_line_and_no_stack_trace_tells_a_secret() -> None:
    """Would catch a log file that repeats what requests says of an address."""
    secret = "https://me:S3CRET@host/a.tar?sig=S3CRET"
    try:
        raise Interrupted(f"no answer from {secret}")
    except Interrupted:
        fault = sys.exc_info()
    record = logging.LogRecord("trainer", logging.INFO, "", 0, "asked %s", (secret,), fault)
    text = PlainFormatter("%(message)s").format(record)
    assert "asked https://host/a.tar" in text and "Traceback" in text and "S3CRET" not in text
