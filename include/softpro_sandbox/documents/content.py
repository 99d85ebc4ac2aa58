"""Provide the bytes of documents: generated while they are read, or from an uploaded file."""

import random
import weakref
from collections.abc import Iterator
from typing import IO, Protocol

BLOCK = 65_536
_LINE = 4096
_HEAD = b"%PDF-1.4\n"


class Content(Protocol):
    """The bytes of a document. `blocks` can be read repeatedly and concurrently."""

    @property
    def size(self) -> int: ...

    def blocks(self) -> Iterator[bytes]: ...


class GeneratedPdf:
    """A PDF of one page, padded to a size. Equal titles and sizes give equal bytes.

    A size below `GeneratedPdf.smallest(title)` is raised to it.
    """

    def __init__(self, title: str, size: int) -> None:
        self.title = title
        self.size = max(size, self.smallest(title))

    @classmethod
    def smallest(cls, title: str) -> int:
        """Return the size in bytes of the smallest PDF with this title."""
        return len(_HEAD) + len(_tail(title, 0))

    def blocks(self) -> Iterator[bytes]:
        """Yield the header, a comment as padding, then the page and the cross-reference table."""
        filler = self.size - self.smallest(self.title)
        yield _HEAD
        yield from _comments(random.Random(self.title), filler)
        yield _tail(self.title, len(_HEAD) + filler)


class UploadedFile:
    """An uploaded file. It is closed after its last use, even if it is deleted while being read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.size = size
        self._file = file
        weakref.finalize(self, file.close)

    def blocks(self) -> Iterator[bytes]:
        """Yield the file from its beginning. Each block seeks, since others may read at the same time."""
        for at in range(0, self.size, BLOCK):
            self._file.seek(at)
            yield self._file.read(BLOCK)


def _comments(rng: random.Random, size: int) -> Iterator[bytes]:
    """Yield numbered lines of PDF comment. All lines differ, so that a reader who mixes up blocks is detected."""
    salt = f"{rng.getrandbits(192):048x}" * (_LINE // 48 + 1)
    rest = f" {salt[: _LINE - 15]}\n"
    for start in range(0, size, BLOCK):
        lines = (f"%{start + at:012d}{rest}" for at in range(0, min(BLOCK, size - start), _LINE))
        block = "".join(lines).encode()
        left = size - start
        yield block if left >= len(block) else block[: left - 1] + b"\n"


def _tail(title: str, offset: int) -> bytes:
    """Build the objects of a PDF and its cross-reference table.

    Args:
        title: the text on the page.
        offset: how many bytes of the PDF come before. Offsets have a fixed width, so that the size is predictable.
    """
    safe = title.encode("ascii", "replace").decode().replace("\\", " ").replace("(", "[").replace(")", "]")
    text = f"BT /F1 14 Tf 72 720 Td ({safe}) Tj ET"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        " /Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    body, table = "", "0000000000 65535 f \n"
    for number, content in enumerate(objects, start=1):
        table += f"{offset + len(body):010d} 00000 n \n"
        body += f"{number} 0 obj\n{content}\nendobj\n"
    count = len(objects) + 1
    trailer = f"trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{offset + len(body):010d}\n%%EOF\n"
    return f"{body}xref\n0 {count}\n{table}{trailer}".encode()
