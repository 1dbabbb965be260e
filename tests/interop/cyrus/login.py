"""Log in over AMQP with Cyrus SASL itself, and print what came of it.

Debian's Proton is built without Cyrus SASL and so has no SCRAM; this program calls the library that a Proton built with
it (and the C routers) would call. It writes its AMQP frames by hand and knows nothing of ours.
"""

import ctypes
import json
import socket
import struct
import sys

SASL_OK, SASL_CONTINUE, SASL_INTERACT = 0, 1, 2
LIST_END, USER, AUTHNAME, PASS = 0, 0x4001, 0x4002, 0x4004
AMQP_HEADER, SASL_HEADER = b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"
MECHANISMS, CHALLENGE, OUTCOME = 0x40, 0x42, 0x44

OPTIONS = json.loads(sys.argv[1])


class Callback(ctypes.Structure):
    _fields_ = [("id", ctypes.c_ulong), ("proc", ctypes.c_void_p), ("context", ctypes.c_void_p)]


class Prompt(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_ulong),
        ("challenge", ctypes.c_char_p),
        ("prompt", ctypes.c_char_p),
        ("default", ctypes.c_char_p),
        ("result", ctypes.c_char_p),
        ("len", ctypes.c_uint),
    ]


class Cyrus:
    """One client exchange of the library."""

    def __init__(self, answers):
        self.library = ctypes.CDLL("libsasl2.so.2")
        self.answers = answers
        self.callbacks = (Callback * 4)(*((identifier, None, None) for identifier in (*answers, LIST_END)))
        self.connection = ctypes.c_void_p()
        self.prompts = ctypes.POINTER(Prompt)()
        self.check(self.library.sasl_client_init(self.callbacks))
        self.check(
            self.library.sasl_client_new(
                b"amqp", b"localhost", None, None, self.callbacks, 0, ctypes.byref(self.connection)
            )
        )

    def check(self, code):
        if code not in (SASL_OK, SASL_CONTINUE):
            self.library.sasl_errdetail.restype = ctypes.c_char_p
            detail = self.library.sasl_errdetail(self.connection) if self.connection else b""
            sys.exit(f"Cyrus SASL: {code} {detail!r}")

    def call(self, function, arguments):
        """Call and answer what it asks for, until it returns octets or None."""
        data, size = ctypes.c_char_p(), ctypes.c_uint()
        while True:
            code = function(*arguments(ctypes.byref(self.prompts), ctypes.byref(data), ctypes.byref(size)))
            if code != SASL_INTERACT:
                self.check(code)
                return ctypes.string_at(data, size.value) if data else None
            prompt = ctypes.cast(self.prompts, ctypes.c_void_p).value
            while (asked := Prompt.from_address(prompt)).id != LIST_END:
                asked.result, asked.len = self.answers[asked.id], len(self.answers[asked.id])
                prompt += ctypes.sizeof(Prompt)

    def start(self, mechanism):
        chosen = ctypes.c_char_p()
        return self.call(
            self.library.sasl_client_start,
            lambda prompts, data, size: (
                self.connection,
                mechanism.encode(),
                prompts,
                data,
                size,
                ctypes.byref(chosen),
            ),
        )

    def step(self, challenge):
        return self.call(
            self.library.sasl_client_step,
            lambda prompts, data, size: (self.connection, challenge, len(challenge), prompts, data, size),
        )


def binary(data):
    return b"\x40" if data is None else b"\xb0" + struct.pack(">I", len(data)) + data


def frame(kind, descriptor, *fields):
    items = b"".join(fields)
    body = b"\x00\x53" + bytes([descriptor]) + b"\xd0" + struct.pack(">II", len(items) + 4, len(fields)) + items
    return struct.pack(">IBBH", 8 + len(body), 2, kind, 0) + body


def read_frame(stream):
    (size,) = struct.unpack(">I", stream.read(4))
    rest = stream.read(size - 4)
    return rest[6], rest[7:]  # descriptor octet, and the list behind it


def items(encoded):
    """The octets behind the header of a list8 or list32."""
    return encoded[3:] if encoded[0] == 0xC0 else encoded[9:]


def read_binary(encoded):
    size = encoded[1] if encoded[0] == 0xA0 else struct.unpack(">I", encoded[1:5])[0]
    start = 2 if encoded[0] == 0xA0 else 5
    return encoded[start : start + size]


def main():
    cyrus = Cyrus({USER: b"", AUTHNAME: OPTIONS["user"].encode(), PASS: OPTIONS["password"].encode()})
    with socket.create_connection(("localhost", OPTIONS["port"]), timeout=20) as connection:
        stream = connection.makefile("rwb", buffering=0)
        stream.write(SASL_HEADER)
        assert stream.read(8) == SASL_HEADER
        descriptor, offered = read_frame(stream)
        assert descriptor == MECHANISMS
        assert OPTIONS["mechanism"].encode() in offered
        mechanism = OPTIONS["mechanism"].encode()
        first = cyrus.start(OPTIONS["mechanism"])
        stream.write(frame(1, 0x41, b"\xa3" + bytes([len(mechanism)]) + mechanism, binary(first)))
        while True:
            descriptor, fields = read_frame(stream)
            if descriptor == OUTCOME:
                break
            assert descriptor == CHALLENGE
            stream.write(frame(1, 0x43, binary(cyrus.step(read_binary(items(fields))) or b"")))
        code, more = items(fields)[1], items(fields)[2:]
        if code:
            print("refused with code", code)
            return
        if more and more[0] != 0x40:
            cyrus.step(read_binary(more))  # the server's proof: ends the program if it is wrong
        stream.write(AMQP_HEADER + frame(0, 0x10, b"\xa1\x05cyrus"))
        assert stream.read(8) == AMQP_HEADER
        descriptor, _ = read_frame(stream)
        print(OPTIONS["mechanism"], "opened" if descriptor == 0x10 else f"answered with {descriptor:#x}")


main()
