"""An AMQP 1.0 client for trio programs, over the router's own engine and driver.

    async with van.client.connect("amqp://localhost") as connection:
        async with connection.sender("orders") as sender:
            outcome = await sender.send("one coffee")

Everything that has an end is used with `async with`. Nothing reconnects by itself: what was in doubt when a connection
was lost only the application can decide.
"""

from __future__ import annotations

from van.amqp.codec import EncodeError as EncodeError
from van.amqp.message import AmqpSequence as AmqpSequence
from van.amqp.message import AmqpValue as AmqpValue
from van.amqp.message import Data as Data
from van.amqp.message import Header as Header
from van.amqp.message import Message as Message
from van.amqp.message import Properties as Properties
from van.client._connection import DEFAULT_URL as DEFAULT_URL
from van.client._connection import Connection as Connection
from van.client._connection import connect as connect
from van.client._errors import AuthenticationError as AuthenticationError
from van.client._errors import ClientError as ClientError
from van.client._errors import ConnectError as ConnectError
from van.client._errors import ConnectionClosedError as ConnectionClosedError
from van.client._errors import LinkDetachedError as LinkDetachedError
from van.client._errors import LinkRefusedError as LinkRefusedError
from van.client._errors import MalformedMessageError as MalformedMessageError
from van.client._errors import MessageTooLargeError as MessageTooLargeError
from van.client._errors import NotAcceptedError as NotAcceptedError
from van.client._errors import SessionEndedError as SessionEndedError
from van.client._errors import TimedOutError as TimedOutError
from van.client._errors import UnreachableError as UnreachableError
from van.client._outcome import Outcome as Outcome
from van.client._outcome import OutcomeState as OutcomeState
from van.client._receiver import Delivery as Delivery
from van.client._receiver import Receiver as Receiver
from van.client._receiver import body_of as body_of
from van.client._request import Requester as Requester
from van.client._sender import Sender as Sender
from van.client._sender import Tracker as Tracker
from van.transport.tls import TlsConfigError as TlsConfigError
from van.transport.url import UrlError as UrlError
