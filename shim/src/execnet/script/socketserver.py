"""The socket server: ``python -m execnet.script.socketserver [HOST]:PORT``. Unlike execnet's, it asks for a secret."""

from farexec.socketserver import listen, main, serve

__all__ = ["listen", "main", "serve"]

if __name__ == "__main__":
    main()
