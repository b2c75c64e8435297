"""The engine behind a socket of the test's own, which can go away, hang and come back while the engine stays."""

import contextlib
import socket
import threading


class EngineProxy:
    """Passes connections to a Unix socket on to another one.

    Args:
        path: where to listen.
        target: the engine's own socket.
    """

    def __init__(self, path, target):
        self.path = path
        self._target = target
        self._connections = []
        self._hanging = False
        self.begin()

    @property
    def address(self):
        return f"unix://{self.path}"

    def begin(self):
        """Listen, as an engine that has just been started."""
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def end(self):
        """Break every connection and listen no more, as an engine that was killed."""
        self.path.unlink(missing_ok=True)
        for connection in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections = []

    def hang(self):
        """Take connections and answer none of them from now on, as an engine that was stopped."""
        self._hanging = True

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._connections.append(client)
                if self._hanging:
                    continue
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self._target)
                self._connections.append(engine)
                for source, sink in ((client, engine), (engine, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
