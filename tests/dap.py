"""A debugger that speaks the Debug Adapter Protocol, as far as a test asks: a message a call, over TCP."""

import json
import socket
import time


class Debugger:
    """A connection to an adapter.

    Args:
        configuration: one of a ``launch.json``, as VS Code reads it.
    """

    def __init__(self, configuration, seconds=60):
        address = configuration["connect"]["host"], configuration["connect"]["port"]
        self._configuration = configuration
        self._deadline = time.monotonic() + seconds
        self._connection = socket.create_connection(address, timeout=seconds)
        self._stream = self._connection.makefile("rb")
        self._number = 0
        self.messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()
        self._connection.close()

    def attach(self, breakpoints):
        """Connect as an editor does, with breakpoints: lines by path of this machine."""
        self.ask("initialize", adapterID="test", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
        attaching = self.send("attach", **self._configuration)
        self.event("initialized")
        for path, lines in breakpoints.items():
            self.ask("setBreakpoints", source={"path": path}, breakpoints=[{"line": line} for line in lines])
        self.ask("configurationDone")
        return self._answer(attaching)

    def ask(self, command, **arguments):
        """Send a request; return the body of its answer."""
        return self._answer(self.send(command, **arguments))

    def send(self, command, **arguments):
        self._number += 1
        request = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        text = json.dumps(request).encode()
        self._connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        return self._number

    def event(self, name):
        """Wait for an event; return its body."""
        return self._wait(lambda message: message["type"] == "event" and message["event"] == name).get("body", {})

    def _answer(self, number):
        answer = self._wait(lambda message: message["type"] == "response" and message["request_seq"] == number)
        assert answer["success"], answer
        return answer.get("body", {})

    def _wait(self, is_wanted):
        seen = 0
        while time.monotonic() < self._deadline:
            for index, message in enumerate(self.messages[seen:], seen):
                if is_wanted(message):
                    return self.messages.pop(index)
            seen = len(self.messages)
            self.messages.append(self._read())
        raise AssertionError(f"it did not come; what came: {self.messages}")

    def _read(self):
        header = self._stream.readline()
        assert header.startswith(b"Content-Length: "), f"the adapter has gone: {header!r}, {self.messages}"
        assert self._stream.readline() == b"\r\n"
        return json.loads(self._stream.read(int(header.split()[1])))
