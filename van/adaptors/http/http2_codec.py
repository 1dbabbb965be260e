"""h2 as we use it: its frames, its states of streams and its windows, without what it makes of fields.

h2 ends a whole connection when the fields of one message are malformed, or its length is not the one announced. By one
connection to a server go the requests of many, whom that must not disturb (RFC 9113, 8.1.1: a stream error). So h2 is
shown of a head only what its states depend on, and the fields are kept for who checks them.

Interpreted also in the compiled build: classes of others are extended here.
"""

from __future__ import annotations

from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Decoder, HeaderTuple

from van.adaptors.http.http2_fields import Fields
from van.adaptors.http.http2_limits import CLOSED_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST

# More than there are streams.
_ANY_NUMBER = 2**31


class HeadDecoder(Decoder):
    """Decodes heads and keeps the last one in `fields`; says of it only whether it is an answer, and which."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: Fields = []

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Raises as the decoder of hpack does."""
        fields: Fields = [(bytes(name), bytes(value)) for name, value in super().decode(data, raw=True)]
        self.fields = fields
        return [HeaderTuple(name, value) for name, value in fields[:8] if name == b":status"]


class Codec(H2Connection):
    """h2's connection, which lets fields pass unseen."""

    MAX_CLOSED_STREAMS = CLOSED_STREAMS

    def __init__(self, *, client: bool, max_streams: int, window: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self.heads = HeadDecoder()
        self.heads.max_header_list_size = MAX_HEADER_LIST
        self.decoder = self.heads
        # A frame as large as we allow may come as soon as the peer has read so.
        self.max_inbound_frame_size = MAX_FRAME_SIZE
        self.told = {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
        }
        self.local_settings = self._settings(max_streams)

    def _settings(self, max_streams: int) -> Settings:
        told = {**self.told, SettingCodes.MAX_CONCURRENT_STREAMS: max_streams}
        return Settings(client=self.config.client_side, initial_values=told)

    def lenient(self) -> None:
        """The settings are said: from now on streams beyond the limit are ours to refuse, one by one."""
        self.local_settings = self._settings(_ANY_NUMBER)
