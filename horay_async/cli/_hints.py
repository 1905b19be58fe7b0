"""
What the user of the command line may do about an error of the library's.
"""

import re
import socket
import ssl

from urllib.parse import urlsplit

from .. import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    AsyncHoray,
    AuthenticationError,
    NotFoundError,
)


_VERSIONED = re.compile(r"/v\d+[a-z0-9]*(/|$)")


def add_hint(error: APIError, client: AsyncHoray) -> None:
    """
    Note on the error what helps against it, where we know something; once.
    """
    if not hasattr(error, "__notes__") and (hint := _hint(error, client)):
        error.add_note(hint)


def _hint(error: APIError, client: AsyncHoray) -> str | None:
    if isinstance(error, AuthenticationError):
        return _about_key(client)
    if isinstance(error, APIConnectionError):
        return _about_connection(error.__cause__, client)
    if _speaks_another_language(error):
        return _about_url(client)
    return None


def _about_key(client: AsyncHoray) -> str:
    variable = client.service.key_variable
    if client._line.settings.key is not None:
        return f"is {variable or 'the key'} right?"
    if variable is None:
        return "no key was sent: with --service horay the one in HORAY_API_KEY is"
    return f"no key was sent: set {variable}"


def _about_connection(cause: BaseException | None, client: AsyncHoray) -> str | None:
    url = client.base_url
    match cause:
        case socket.gaierror():
            return f"is {url} right, and is there a network?"
        case ConnectionRefusedError():
            return f"is {url} right, and is its server running?"
        case ssl.SSLCertVerificationError():
            return None
        case ssl.SSLError():
            return f"is it http rather than https in {url}?"
    return None


def _speaks_another_language(error: APIError) -> bool:
    """
    Whether it looks as if the address were not that of an API.
    """
    if isinstance(error, NotFoundError):
        # A server that has the path, but not the model, says so in JSON.
        return not isinstance(error.body, dict)
    if isinstance(error, APIStatusError):
        return error.status_code in {405, 501}
    return isinstance(error, APIResponseValidationError)


def _about_url(client: AsyncHoray) -> str:
    url = client.base_url
    if _VERSIONED.search(urlsplit(url).path):
        return f"is {url} the address of its API?"
    return f"is the address right? Most end in a version: {url}/v1"
