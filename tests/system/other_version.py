"""A peer that speaks Cairn's frames (docs/formats.md, "Frames") with versions of our choosing, and no message but an empty one."""

import contextlib
import socket
import struct
import threading

HELLO, REQUEST, ERROR, GOODBYE = 1, 2, 4, 5
HEADER = struct.Struct("<4sBBHQQIIIIII")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(kind, message, frame_version=1, method=0, deadline_ms=0):
    request = 1 if kind == REQUEST else 0
    header = HEADER.pack(b"CRN1", frame_version, kind, method, request, 0, deadline_ms, len(message), 0, 0, 0, crc32c(message))
    return header + struct.pack("<I", crc32c(header)) + message


def hello(oldest, newest, program=b"other-version 9.9"):
    return struct.pack("<QHH", 0, oldest, newest) + bytes([len(program)]) + program


def read_exactly(s, count):
    data = b""
    while len(data) < count:
        more = s.recv(count - len(data))
        if not more:
            raise ConnectionError(f"closed after {len(data)} of {count} bytes")
        data += more
    return data


def read_frame(s):
    """(kind, message)"""
    header = read_exactly(s, HEADER.size + 4)
    fields = HEADER.unpack(header[:-4])
    assert fields[0] == b"CRN1" and struct.unpack("<I", header[-4:])[0] == crc32c(header[:-4]), header
    return fields[2], read_exactly(s, fields[7])


def error_code(message):
    return struct.unpack("<H", message[:2])[0]


def error_text(message):
    """Of an error or a goodbye: code, and a context with its length as a varint before it."""
    return message[3 if message[2] < 0x80 else 4 :].decode()


def ask(address, *sent):
    """Sends frames, and gives what comes back until the end of the connection."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.sendall(b"".join(sent))
        answers = []
        with contextlib.suppress(ConnectionError):
            while True:
                answers.append(read_frame(s))
        return answers


@contextlib.contextmanager
def server(answer):
    """A server on loopback that sends `answer` to whoever has said hello, and then waits for the end. Gives its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def serve(s):
        with s, contextlib.suppress(OSError):
            read_frame(s)
            s.sendall(answer)
            while s.recv(4096):
                pass

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
