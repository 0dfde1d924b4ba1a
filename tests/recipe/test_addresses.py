"""What of an address is shown, stored and compared."""

import pytest

from trainer.recipe.addresses import without_signature


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("shards/{000..009}.tar", "shards/{000..009}.tar"),
        ("a/what?.tar", "a/what?.tar"),
        ("s3://bucket/a.tar?versionId=1", "s3://bucket/a.tar?versionId=1"),
        ("hf://org/set?split=train", "hf://org/set?split=train"),
        ("https://host/{0..3}.tar?sig=a%3Ab&x=1", "https://host/{0..3}.tar"),
        ("HTTPS://host/corpora/web?sig=abc", "HTTPS://host/corpora/web"),
        ("https://host/a.tar?as=b.tar", "https://host/a.tar"),
        ("https://host/get?file=a.tar", "https://host/get?file=a.tar"),
        ("http://h/a.tgz?s=1::b.tar::http://h/c.tar?s=2", "http://h/a.tgz::b.tar::http://h/c.tar"),
    ],
)
def test_an_address_is_shown_without_its_signature(given: str, shown: str) -> None:
    """Would catch a signature that is stored, and two tars of one name."""
    assert without_signature(given) == shown
