"""Which redirects of a web server are followed.

A server that is asked for a shard can name any other address in its answer: one inside the network
that this machine alone may reach, or one without encryption. So a redirect leads to the host that
was asked, or to one that the whole world can reach, and never from https to http.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urljoin, urlsplit

from trainer.errors import DataError

MOST = 10
"""Redirects in a row that are followed."""
FOLLOWED = (301, 302, 303, 307, 308)
"""The answers that name another address."""

Resolver = Callable[[str], list[str]]


def resolved(host: str) -> list[str]:
    """The IP addresses of a host; none where it has no name in this network."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(address[4][0]).partition("%")[0] for address in found]


def redirected(
    asked: str, present: str, location: str, private: bool, resolver: Resolver = resolved
) -> str:
    """The address that `location` names, in an answer of `present`, where `asked` was asked first.

    `private`: hosts that only this network reaches are followed to, too. Raises DataError for an
    address that is not followed.
    """
    try:
        target = urljoin(present, location)
        parts, host = urlsplit(target), urlsplit(target).hostname
    except ValueError:
        raise DataError(f"{asked}: redirects to what is no address: ask its owner") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _refused(asked, target, "which is no web address: name the file's own address")
    if urlsplit(present).scheme == "https" and parts.scheme == "http":
        raise _refused(asked, target, "without encryption: name the file's own address")
    if private or host == urlsplit(asked).hostname:
        return target
    found = resolver(host)
    if not found:
        raise _refused(asked, target, "a host that is not known here: name the file's own address")
    if closed := [address for address in found if not ipaddress.ip_address(address).is_global]:
        raise _refused(
            asked,
            target,
            f"a host of this private network ({closed[0]}): name the file's own address, or set"
            " data.remote.private_redirects=true where the store is trusted",
        )
    return target


def hops(asked: str) -> Iterator[int]:
    """The numbers of the requests that an address may take; DataError where they do not end."""
    yield from range(MOST + 1)
    raise DataError(f"{asked}: redirects more than {MOST} times: name the file's own address")


def _refused(asked: str, target: str, why: str) -> DataError:
    return DataError(f"{asked}: redirects to {target}, {why}")
